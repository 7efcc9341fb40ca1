"""Rules over a plan, before anything is applied: pure decisions, each with an id, a sentence and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labctl.model.errors import UserError, nearest
from labctl.model.inventory import Foreign
from labctl.model.plan import Action, PlanSummary, ResourceChange

VM = "proxmox_virtual_environment_vm"
CONTAINER = "proxmox_virtual_environment_container"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a plan breaks."""

    rule: str
    address: str
    sentence: str
    remedy: str


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


def protected_guests(plan: PlanSummary, protected: Sequence[str], allowed: Sequence[str]) -> list[Violation]:
    """Rule `protected-guest`: a plan that deletes or replaces a protected guest needs consent by name."""
    found = []
    for change in plan.changes:
        name = guest_name(change)
        if name not in protected or change.action not in (Action.DELETE, Action.REPLACE):
            continue
        if name in allowed or change.address in allowed:
            continue
        verb = "destroys" if change.action is Action.DELETE else "destroys and makes anew"
        found.append(
            Violation(
                "protected-guest",
                change.address,
                f"the plan {verb} guest {name!r} with all its data",
                f"If that is what you want, add --allow-destroy {name}",
            )
        )
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


def check_allowed(allowed: Sequence[str], known: Sequence[str]) -> None:
    """Refuses a name in --allow-destroy that no guest of the lab has.

    Raises:
        UserError: A name is unknown; the nearest is offered.
    """
    for name in allowed:
        if name not in known and "." not in name:
            raise UserError(f"--allow-destroy {name}: the lab has no such guest", hint=nearest(name, known))


def evaluate(
    plan: PlanSummary,
    *,
    protected: Sequence[str],
    allowed: Sequence[str],
    foreign: Sequence[Foreign] = (),
) -> list[Violation]:
    """All violations of a plan, foreign guests first."""
    return [*foreign_guests(foreign), *protected_guests(plan, protected, allowed), *shrunk_disks(plan)]


def refuse(stack: str, violations: Sequence[Violation]) -> None:
    """Stops on the first violation and lists all.

    Raises:
        UserError: There is at least one violation.
    """
    if not violations:
        return
    sentences = "\n".join(f"  [{v.rule}] {v.sentence}" for v in violations)
    remedies = list(dict.fromkeys(v.remedy for v in violations))
    consents = [v.remedy.rsplit(" ", 1)[1] for v in violations if v.rule == "protected-guest"]
    if len(consents) == len(violations) > 1:
        flags = " ".join(f"--allow-destroy {name}" for name in consents)
        remedies = [f"If that is what you want, add {flags}"]
    raise UserError(f"the plan is refused:\n{sentences}", where=stack, hint=" ".join(remedies))
