"""The base of all resources here: a `TerraformResource` with its arguments as plain data and an address that people can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from constructs import Construct

from stacks.cdk import ITerraformDependable, TerraformResource, TerraformResourceLifecycle
from stacks.constructs.literal import arguments as escaped


class Resource(TerraformResource):
    """A resource whose address is `<kind>.<name>`, whatever construct it stands in.

    Args:
        scope: Where it belongs.
        kind: Terraform's type, as `proxmox_virtual_environment_vm`.
        name: Its name in Terraform, unique for its kind in the stack.
        arguments: Its arguments as in Terraform's JSON syntax; text in them is taken literally, tokens stay, `None` is left out.
        depends_on: Resources that must exist first although no argument refers to them.
        lifecycle: Terraform's `lifecycle` block.
    """

    def __init__(
        self,
        scope: Construct,
        kind: str,
        name: str,
        arguments: Mapping[str, Any],
        *,
        depends_on: Sequence[ITerraformDependable] = (),
        lifecycle: TerraformResourceLifecycle | None = None,
    ) -> None:
        super().__init__(
            scope,
            f"{kind}.{name}",
            terraform_resource_type=kind,
            depends_on=list(depends_on) or None,
            lifecycle=lifecycle,
        )
        self.override_logical_id(name)
        self.address = f"{kind}.{name}"
        self._arguments: dict[str, Any] = escaped(arguments)

    def _synthesize_attributes(self) -> Mapping[str, Any]:
        # CDKTF asks for all of them at once: an `add_override` for each would be a round trip to Node for each.
        return self._arguments
