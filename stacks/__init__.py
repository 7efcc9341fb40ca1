"""What each layer of the lab is made of. Read the modules that are named as layers as lists of what it has.

Importing this package starts jsii's Node process (0.5 s); labctl does so only when something changed. The stacks know the
model, the cloud-init documents, the Compose files and their own constructs, nothing of labctl's engine; CDKTF's own CLI runs them
too (`python -m stacks`).
"""

from __future__ import annotations

from labctl.model.stackcontext import StackContext
from stacks.apps import LabApp
from stacks.cdk import App
from stacks.foundation import Foundation
from stacks.platform import Platform
from stacks.services import Services

__all__ = ["App", "Foundation", "LabApp", "Platform", "Services", "build"]


def build(app: App, context: StackContext) -> None:
    """Adds the lab's stacks to `app`, in the order in which they depend on each other.

    Raises:
        UserError: The lab asks for something that the stacks cannot make.
    """
    foundation = Foundation(app, context)
    platform = Platform(app, context, foundation)
    if Services.layer in context.lab.layers:
        services = Services(app, context, foundation, platform)
        apps: dict[str, LabApp] = {}
        for spec in context.lab.app_specs():
            apps[spec.name] = LabApp(app, context, spec, platform=platform, services=services, others=apps)
