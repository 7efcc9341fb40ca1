"""Reads a Terraform state document (version 4) without starting a process."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.model.errors import AdapterError

STATE_BUCKET = "terraform"
"""The bucket that holds the states of all layers above foundation."""

_GUESTS = ("proxmox_virtual_environment_vm", "proxmox_virtual_environment_container")
_ON_GUESTS = ("proxmox_virtual_environment_firewall_options", "proxmox_virtual_environment_firewall_rules")


def state_key(stack: str) -> str:
    """The object that holds a stack's state."""
    return f"state/{stack}/terraform.tfstate"


def lock_key(stack: str) -> str:
    """The object that is there while a stack's state is locked (Terraform's S3 backend with `use_lockfile`)."""
    return f"{state_key(stack)}.tflock"


@dataclass(frozen=True, slots=True)
class StackState:
    """What a stack's state says.

    Attributes:
        serial: Rises with each change; -1 where there is no state at all.
        lineage: The same through all of a state's life; "" where there is none.
        outputs: Output values by name.
        sensitive: Names of the outputs that are not to be shown unasked.
        vmids: VMIDs of the guests in it.
        resources: Number of managed resources.
        tainted: Addresses of tainted resources.
        addresses: Addresses of all managed resources.
        guests: Name on the hypervisor of each guest in it, by address.
        on_guests: The guest's VMID, by the address of what is set for a guest and goes with it.
    """

    serial: int = -1
    lineage: str = ""
    outputs: Mapping[str, Any] | None = None
    sensitive: frozenset[str] = frozenset()
    vmids: frozenset[int] = frozenset()
    resources: int = 0
    tainted: tuple[str, ...] = ()
    addresses: frozenset[str] = frozenset()
    guests: Mapping[str, str] = field(default_factory=dict)
    on_guests: Mapping[str, int] = field(default_factory=dict)

    @property
    def deployed(self) -> bool:
        """Whether anything of the stack exists: a resource, or an output of a stack that has none."""
        return self.resources > 0 or bool(self.outputs)


def parse_state(text: str | bytes | None, where: str) -> StackState:
    """The state in `text`; an empty one for None.

    Raises:
        AdapterError: The text is not a state of version 4.
    """
    if not text:
        return StackState()
    try:
        document = json.loads(text)
        if document["version"] != 4:
            raise AdapterError(f"state has version {document['version']}, expected 4", where=where)
        managed = [r for r in document.get("resources", ()) if r["mode"] == "managed" and r.get("instances")]
        return StackState(
            serial=int(document["serial"]),
            lineage=str(document.get("lineage", "")),
            outputs={name: item["value"] for name, item in document.get("outputs", {}).items()},
            sensitive=frozenset(name for name, item in document.get("outputs", {}).items() if item.get("sensitive")),
            vmids=frozenset(_vmids(managed)),
            resources=len(managed),
            tainted=tuple(address for address, _, instance in instances(managed) if instance.get("status") == "tainted"),
            addresses=frozenset(address for address, _, _ in instances(managed)),
            guests={
                address: str(instance.get("attributes", {}).get("name") or resource["name"])
                for address, resource, instance in instances(managed)
                if resource["type"] in _GUESTS
            },
            on_guests={
                address: int(instance["attributes"]["vm_id"])
                for address, resource, instance in instances(managed)
                if resource["type"] in _ON_GUESTS and instance.get("attributes", {}).get("vm_id")
            },
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            "the state is not readable as a Terraform state",
            where=where,
            hint="Restore the file from its backup (*.backup).",
        ) from error


def without(document: Mapping[str, Any], addresses: Collection[str]) -> dict[str, Any]:
    """A state document without these managed resources, one serial on."""
    resources = []
    for resource in document.get("resources", ()):
        kept = [instance for address, _, instance in instances([resource]) if address not in addresses]
        if resource["mode"] != "managed" or len(kept) == len(resource["instances"]):
            resources.append(resource)
        elif kept:
            resources.append({**resource, "instances": kept})
    return {**document, "resources": resources, "serial": int(document["serial"]) + 1}


def instances(managed: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each instance with its address, as Terraform writes it, and its resource, which comes second."""
    for resource in managed:
        module = f"{resource['module']}." if resource.get("module") else ""
        for instance in resource["instances"]:
            # A key is a number under `count`, a string under `for_each`, and JSON writes both as addresses do.
            key = f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""
            yield f"{module}{resource['type']}.{resource['name']}{key}", resource, instance


def _vmids(managed: list[dict[str, Any]]) -> list[int]:
    return [
        int(instance["attributes"]["vm_id"])
        for resource in managed
        if resource["type"] in _GUESTS
        for instance in resource["instances"]
        if instance.get("attributes", {}).get("vm_id")
    ]
