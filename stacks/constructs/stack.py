"""The base of the lab's stacks."""

from __future__ import annotations

from typing import ClassVar

from labctl.model.stackcontext import StackContext
from stacks.cdk import App, TerraformStack
from stacks.constructs.provider import ProxmoxProvider


class LabStack(TerraformStack):
    """A part of the lab as one root module: a whole layer, whose name it bears, or one of a layer's several stacks.

    Args:
        app: The tree of stacks.
        context: What all stacks are made from.
        name: Its own name, where the layer has several.

    Attributes:
        name: Its name.
    """

    layer: ClassVar[str]

    def __init__(self, app: App, context: StackContext, name: str = "") -> None:
        self.name = name or self.layer
        super().__init__(app, self.name)
        self.context = context
        # Programs that read the synthesised JSON learn here which layer it is.
        self.add_override("//.metadata.layer", self.layer)


class HypervisorStack(LabStack):
    """A layer on the lab's hypervisor."""

    def __init__(self, app: App, context: StackContext) -> None:
        super().__init__(app, context)
        ProxmoxProvider(self, context.lab)
