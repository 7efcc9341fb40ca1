"""The hypervisor against the lab: guests, disks, files, mappings, and who may reach them. Pure.

`world` has the two sides, `declared` reads one of them out of lab.yaml and the states; `guests`, `settings`, `files` and `access`
compare. A thing that Terraform made has its Terraform address as id, and its stack: what a plan finds of it too has the same id,
and the same attribute path. Everything else is called as the hypervisor calls it: `qemu/105`, `volume/local-lvm:vm-105-disk-0`.
"""

from __future__ import annotations

from datetime import datetime

from labctl.model.drift.finding import AreaDrift
from labctl.model.drift.proxmox.access import compare_access
from labctl.model.drift.proxmox.declared import Written, declared_by
from labctl.model.drift.proxmox.files import compare_files, compare_mappings, compare_pools, may_list
from labctl.model.drift.proxmox.guests import compare_guests, place, to_ask
from labctl.model.drift.proxmox.settings import compare_settings
from labctl.model.drift.proxmox.world import AREA, Declared, DeclaredGuest, DeclaredThing, Inventory, Origin, Unmanaged

__all__ = [
    "AREA",
    "Declared",
    "DeclaredGuest",
    "DeclaredThing",
    "Inventory",
    "Origin",
    "Unmanaged",
    "Written",
    "compare",
    "declared_by",
    "may_list",
    "place",
    "to_ask",
]


def compare(seen: Inventory, declared: Declared, now: datetime, unmanaged: Unmanaged = "lab") -> AreaDrift:
    """What is not as declared.

    Args:
        seen: What the token was shown.
        declared: What belongs to the lab.
        now: The time of the check (UTC).
        unmanaged: Whether guests of others, outside of the lab's pool, are findings.
    """
    placed = place(seen, declared)
    parts = (
        compare_guests(seen, declared, placed, unmanaged),
        compare_settings(seen, placed),
        compare_files(seen, declared, placed),
        compare_mappings(seen, declared),
        compare_pools(seen, declared),
        compare_access(seen, declared, now),
    )
    findings = (one for part in parts for one in part.findings)
    return AreaDrift(
        AREA,
        tuple(sorted(findings, key=lambda one: (one.stack, one.id, one.kind))),
        (*seen.problems, *(problem for part in parts for problem in part.problems)),
        tuple(note for part in parts for note in part.notes),
        sum(part.looked for part in parts),
    )
