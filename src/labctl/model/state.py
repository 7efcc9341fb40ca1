"""Reads a Terraform state document (version 4) without starting a process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.model.errors import AdapterError

STATE_BUCKET = "terraform"
"""The bucket that holds the states of all layers above foundation."""

_GUESTS = ("proxmox_virtual_environment_vm", "proxmox_virtual_environment_container")


def state_key(stack: str) -> str:
    """The object that holds a stack's state."""
    return f"state/{stack}/terraform.tfstate"


@dataclass(frozen=True, slots=True)
class StackState:
    """What a stack's state says.

    Attributes:
        serial: Rises with each change; -1 where there is no state at all.
        outputs: Output values by name.
        sensitive: Names of the outputs that are not to be shown unasked.
        vmids: VMIDs of the guests in it.
        resources: Number of managed resources.
        tainted: Addresses of tainted resources.
    """

    serial: int = -1
    outputs: Mapping[str, Any] | None = None
    sensitive: frozenset[str] = frozenset()
    vmids: frozenset[int] = frozenset()
    resources: int = 0
    tainted: tuple[str, ...] = ()

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
            outputs={name: item["value"] for name, item in document.get("outputs", {}).items()},
            sensitive=frozenset(name for name, item in document.get("outputs", {}).items() if item.get("sensitive")),
            vmids=frozenset(_vmids(managed)),
            resources=len(managed),
            tainted=tuple(f"{r['type']}.{r['name']}" for r in managed for i in r["instances"] if i.get("status") == "tainted"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            "the state is not readable as a Terraform state",
            where=where,
            hint="Restore the file from its backup (*.backup).",
        ) from error


def _vmids(managed: list[dict[str, Any]]) -> list[int]:
    return [
        int(instance["attributes"]["vm_id"])
        for resource in managed
        if resource["type"] in _GUESTS
        for instance in resource["instances"]
        if instance.get("attributes", {}).get("vm_id")
    ]
