"""A guest's firewall: closed, except for what its layer's contract names."""

from __future__ import annotations

from collections.abc import Sequence

from constructs import Construct

from labctl.model.openings import Opening
from stacks.cdk import TerraformResourceLifecycle
from stacks.constructs.resource import Resource
from stacks.constructs.vm import VirtualMachine


class Firewall:
    """Options and rules of one guest. Nothing comes in but `openings`, everything may go out.

    Both resources are made again with their guest: a replaced guest has lost its rules, and the provider does not see it.
    """

    def __init__(
        self, scope: Construct, name: str, *, node: str, vm: VirtualMachine, openings: Sequence[Opening], source: str, dhcp: bool
    ) -> None:
        again = TerraformResourceLifecycle(replace_triggered_by=[f"{vm.address}.id"])
        place = {"node_name": node, "vm_id": vm.get_number_attribute("vm_id")}
        self.options = Resource(
            scope,
            "proxmox_virtual_environment_firewall_options",
            name,
            {**place, "enabled": True, "dhcp": dhcp, "input_policy": "DROP", "output_policy": "ACCEPT"},
            lifecycle=again,
        )
        rules = [
            {
                "type": "in",
                "action": "ACCEPT",
                "proto": "tcp",
                "dport": str(opening.port),
                "source": source or None,
                "comment": opening.purpose,
                "log": "nolog",
            }
            for opening in openings
        ]
        self.rules = Resource(
            scope, "proxmox_virtual_environment_firewall_rules", name, {**place, "rule": rules}, lifecycle=again
        )
