"""Rules over a plan, before anything is applied: pure decisions, each with an id, a sentence and a remedy.

labctl's own are here (`labctl.model.violation.RULES` lists them), a lab's in `labctl.model.labrules`. docs/policy.md has both.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence

from labctl.model.errors import UserError, nearest
from labctl.model.inventory import Foreign
from labctl.model.labrules import LabRule, lab_violations
from labctl.model.plan import Action, PlanSummary, ResourceChange
from labctl.model.violation import Violation

VM = "proxmox_virtual_environment_vm"
CONTAINER = "proxmox_virtual_environment_container"

STATEFUL = frozenset(
    {
        VM,
        CONTAINER,
        "proxmox_virtual_environment_vm2",
        "proxmox_vm",
        "proxmox_virtual_environment_cloned_vm",
        "proxmox_cloned_vm",
        "proxmox_node_disk_zfs",
        "proxmox_ceph_pool",
    }
)
"""Types of bpg/proxmox 0.111.1 whose resources hold data that exists nowhere else.

Guests go with their disks (the provider passes `destroy-unreferenced-disks`), a ZFS or Ceph pool with all volumes in it.
Left out is what can be made again from the description: images and snippets (URL and text are in the stack), firewall rules,
mappings, users; a resource pool, which Proxmox refuses to delete while it has members (`PVE::API2::Pool`); and
`proxmox_storage_*`, whose removal forgets the datastore and leaves what is on it.
"""


def guest_name(change: ResourceChange) -> str:
    """The guest's name on the hypervisor, from either side of the change; "" for other resources."""
    if change.type not in (VM, CONTAINER):
        return ""
    for side in (change.after, change.before):
        if side and side.get("name"):
            return str(side["name"])
    return change.name


def planned_vmids(plan: PlanSummary) -> dict[int, str]:
    """VMID and name of each guest that the plan creates (a replacement keeps its own VMID, so it is left out)."""
    return {
        int(change.after["vm_id"]): guest_name(change)
        for change in plan.changes
        if change.type in (VM, CONTAINER) and change.action is Action.CREATE and change.after and change.after.get("vm_id")
    }


def foreign_guests(foreign: Sequence[Foreign]) -> list[Violation]:
    """Rule `foreign-guest`: a VMID that the plan creates belongs to somebody (`labctl.model.inventory`).

    The provider would take the guest over in silence, and destroy it with the lab: it retries a create that answers "already
    exists" and takes it as done (measured with bpg/proxmox 0.111.1).
    """
    return [
        Violation(
            "foreign-guest",
            guest.planned,
            str(guest),
            f"It was not touched. Give {guest.planned!r} another `vmid` in lab.yaml, or move the other guest.",
        )
        for guest in foreign
    ]


def lost_data(plan: PlanSummary, protected: Collection[str], allowed: Collection[str]) -> list[Violation]:
    """Rules `protected-guest`, `stateful-resource` and `tainted-guest`: data goes only with consent by name or address.

    A tainted one is named as such: Terraform marks what it could not finish (a failed start or resize is enough, measured), and
    would destroy a guest full of data for that.
    """
    found = []
    for change in plan.changes:
        name = guest_name(change)
        if change.action not in (Action.DELETE, Action.REPLACE) or not (name in protected or change.type in STATEFUL):
            continue
        if change.address in allowed or (name and name in allowed):
            continue
        consent = name if name in protected else change.address
        called = f"guest {name!r}" if name else change.address
        if change.tainted:
            sentence = f"the plan destroys {called} with all its data and makes it anew, because it is tainted"
            remedy = f"`labctl untaint {shlex.quote(consent)}` keeps it as it is."
            found.append(Violation("tainted-guest", change.address, sentence, remedy, consent))
            continue
        verb = "destroys" if change.action is Action.DELETE else "destroys and makes anew"
        rule = "protected-guest" if name in protected else "stateful-resource"
        found.append(Violation(rule, change.address, f"the plan {verb} {called} with all its data", "", consent))
    return found


def shrunk_disks(plan: PlanSummary) -> list[Violation]:
    """Rule `disk-shrink`: Proxmox cannot shrink a disk; the provider would fail in the middle of the apply."""
    found = []
    for change in plan.changes:
        if change.type != VM or change.action is not Action.UPDATE or not change.before or not change.after:
            continue
        old = {disk["interface"]: disk.get("size") for disk in change.before.get("disk") or ()}
        for disk in change.after.get("disk") or ():
            before, after = old.get(disk["interface"]), disk.get("size")
            if before and after and after < before:
                found.append(
                    Violation(
                        "disk-shrink",
                        change.address,
                        f"disk {disk['interface']} of {guest_name(change)!r} would shrink from {before} to {after} GiB",
                        f"Set disk_gib back to {before} or more.",
                    )
                )
    return found


def check_allowed(allowed: Iterable[str], names: Collection[str], addresses: Collection[str] | None = None) -> None:
    """Refuses what --allow-destroy names and the lab does not have.

    Args:
        allowed: Guests' names and Terraform addresses; only an address has a dot.
        names: The lab's guests.
        addresses: The resources of all its stacks; None while they are not known.

    Raises:
        UserError: One is unknown; the nearest is offered.
    """
    for one in allowed:
        if "." not in one and one not in names:
            raise UserError(f"--allow-destroy {one}: the lab has no such guest", hint=nearest(one, names))
        if "." in one and addresses is not None and one not in addresses:
            known = [address for address in addresses if STATEFUL & set(address.split("."))]
            raise UserError(f"--allow-destroy {one}: no stack has such a resource", hint=nearest(one, [*names, *known]))


def evaluate(
    plan: PlanSummary,
    *,
    protected: Collection[str],
    allowed: Collection[str],
    foreign: Sequence[Foreign] = (),
    rules: Iterable[LabRule] = (),
) -> list[Violation]:
    """All violations of a plan, foreign guests first, the lab's own rules last; some of these only warn."""
    return [
        *foreign_guests(foreign),
        *lost_data(plan, protected, allowed),
        *shrunk_disks(plan),
        *lab_violations(plan, rules),
    ]


def refuse(stack: str, violations: Iterable[Violation]) -> None:
    """Stops on the first violation that does not only warn, and lists all of these.

    Raises:
        UserError: There is at least one.
    """
    stopping = [one for one in violations if not one.warns]
    if not stopping:
        return
    sentences = "\n".join(f"  [{one.rule}] {one.sentence}" for one in stopping)
    remedies = list(dict.fromkeys(one.remedy for one in stopping if one.remedy))
    consents = dict.fromkeys(one.consent for one in stopping if one.consent)
    if consents:
        flags = " ".join(f"--allow-destroy {shlex.quote(consent)}" for consent in consents)
        remedies.append(f"If the loss is what you want, add {flags}")
    raise UserError(f"the plan is refused:\n{sentences}", where=stack, hint="\n".join(remedies))
