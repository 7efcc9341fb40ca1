"""Reads what drifted and what is pending out of one Terraform plan.

A normal plan refreshes first. Its JSON has both ways apart: `resource_drift` is from the state to the world, what changed
outside; `resource_changes` is from the world to the code, what would mend it. An attribute in both has drifted; one in the second
alone waits to be applied; one in the first alone is nobody's (docs/decisions/010).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.model.difference import AttributeChange, attribute_changes
from labctl.model.drift.finding import MASK, Change, Finding, Kind, Verdict
from labctl.model.drift.rules import FILE, noise, resolved, severity, worst
from labctl.model.drift.words import Place, changes_text, subject
from labctl.model.guestfiles import DOCKER
from labctl.model.ownprovider import OWN_LAYERS
from labctl.model.plan import Action, ResourceChange, parse_drift, parse_plan

AREA = "terraform"
_BY_TRIGGER = "replace_by_triggers"
_GUESTS = ("proxmox_virtual_environment_vm", "proxmox_virtual_environment_container")
_PENDING_TEXTS = {
    Action.CREATE: "is to be created: the code has it, and it was never applied",
    Action.DELETE: "is to be destroyed: the code no longer has it",
    Action.FORGET: "is to be forgotten: the code no longer has it",
}


def verdict_of(findings: Collection[Finding]) -> Verdict:
    """How a stack with these findings stands."""
    if any(finding.kind is not Kind.PENDING for finding in findings):
        return Verdict.DRIFTED
    return Verdict.PENDING if findings else Verdict.CLEAN


def stack_findings(
    document: Mapping[str, Any], *, stack: str, layer: str, gone: Collection[str] = frozenset(), lacking: str = ""
) -> tuple[Finding, ...]:
    """What drifted and what is pending in one stack.

    Args:
        document: What `terraform show -json PLANFILE` printed of a plan that refreshed.
        stack: The stack's name.
        layer: Its layer.
        gone: Addresses that were left out of the state, because the guest that they were set for or ran on is gone.
        lacking: The right that the token would need to be shown snippets; "" where it has it.
    """
    outside = parse_drift(document)
    summary = parse_plan(stack, document)
    missing = {change.address for change in summary.changes if _missing(change, outside.get(change.address), gone)}
    reading = _Reading(stack, layer, _places(document), bool(missing), lacking)
    found: list[Finding] = []
    for change in summary.changes:
        if change.address in missing:
            found.append(reading.missing(change))
        else:
            found += reading.changed(change, outside.get(change.address))
    if not found and summary.outputs:
        names = ", ".join(summary.outputs)
        changes = tuple(Change(f"output.{name}", *_output(document, name)) for name in summary.outputs)
        text = f"output {names} is to change: the code differs from what was applied"
        found.append(Finding(AREA, Kind.PENDING, "outputs", text, severity(Kind.PENDING, ""), stack, layer, changes=changes))
    return tuple(found)


def _missing(change: ResourceChange, outside: ResourceChange | None, gone: Collection[str]) -> bool:
    if change.action is not Action.CREATE:
        return False
    return change.address in gone or (outside is not None and outside.action is Action.DELETE)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Makes findings of one stack.

    Attributes:
        lacks: Something of it is gone, from which other changes follow.
        lacking: As in `stack_findings`.
    """

    stack: str
    layer: str
    places: Mapping[str, Place]
    lacks: bool
    lacking: str = ""

    def missing(self, change: ResourceChange) -> Finding:
        place = self._place(change)
        if self.lacking and change.type == FILE:
            text = f"{subject(change, place)} is there or not: the token is not shown it, without {self.lacking}"
            return self._finding(Kind.HIDDEN, change, place, text, ())
        text = f"{subject(change, place)} was deleted outside of labctl"
        return self._finding(Kind.MISSING, change, place, text, ())

    def changed(self, change: ResourceChange, outside: ResourceChange | None) -> Iterator[Finding]:
        place = self._place(change)
        what = subject(change, place)
        if change.action in _PENDING_TEXTS:
            yield self._finding(Kind.PENDING, change, place, f"{what} {_PENDING_TEXTS[change.action]}", ())
            return
        drifted, pending = split(change, outside, follows=self.lacks)
        if all(resolved(change.type, one.path) for one in pending):
            drifted, pending = (*drifted, *pending), ()
        if drifted:
            text = changes_text(what, drifted, replaced=change.action is Action.REPLACE)
            yield self._finding(Kind.CHANGED, change, place, text, drifted)
        if pending:
            text = changes_text(what, pending, replaced=change.action is Action.REPLACE, pending=True)
            yield self._finding(Kind.PENDING, change, place, text, pending)
        elif not drifted and (text := self._whole(change)):
            yield self._finding(Kind.PENDING, change, place, f"{what} {text}", ())

    def _whole(self, change: ResourceChange) -> str:
        """Why a resource would be touched of which no attribute is to change; "" where that follows from something else."""
        if change.tainted:
            return "is to be made anew: its creation failed"
        if change.action is Action.REPLACE:
            return "" if self.lacks and change.reason == _BY_TRIGGER else "is to be replaced"
        if change.importing:
            return "is to be taken into the state"
        return f"is to be moved in the state, from {change.moved_from}" if change.moved_from else ""

    def _finding(self, kind: Kind, change: ResourceChange, place: Place, text: str, changes: tuple[Change, ...]) -> Finding:
        weights = tuple(severity(kind, change.type, one.path) for one in changes)
        weight = worst(weights) if weights else severity(kind, change.type)
        return Finding(AREA, kind, change.address, text, weight, self.stack, self.layer, place.guest, place.node, changes)

    def _place(self, change: ResourceChange) -> Place:
        values = change.after or change.before or {}
        if self.layer in OWN_LAYERS:
            return Place(DOCKER.name)
        known = self.places.get(str(values.get("vm_id"))) or self.places.get(change.name) or Place()
        return Place(known.guest, str(values.get("node_name") or known.node))


def split(
    change: ResourceChange, outside: ResourceChange | None, *, follows: bool = False
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """The attributes that drifted and those that wait to be applied; noise is left out.

    Args:
        change: What the plan would do to the resource.
        outside: What refresh found changed in it.
        follows: Something else of the stack is gone: what is not known yet follows from that.
    """
    wanted = _telling(change)
    seen = _telling(outside) if outside is not None else ()
    drifted, pending = [], []
    for one in wanted:
        old = next((was for was in seen if _same_place(one, was)), None)
        if one.unknown:
            # Computed anew because of another change of the resource, or of the one that is gone.
            if not follows and len(wanted) == sum(other.unknown for other in wanted):
                pending.append(Change(one.path, "(known after the apply)", MASK if one.sensitive else one.before))
        elif old is None:
            pending.append(_change(one, one.after, one.before))
        else:
            drifted.append(_change(one, one.after, one.before))
            if _was_pending_too(change.type, one, old):
                pending.append(_change(one, one.after, old.before))
    return tuple(drifted), tuple(pending)


def _was_pending_too(type_: str, wanted: AttributeChange, seen: AttributeChange) -> bool:
    """Whether the code had changed besides: what was applied last is not what it wants.

    Of blocks that cannot be said: the state has what the provider computed in them, and the plan does not.
    """
    if wanted.sensitive or wanted.keys != seen.keys or _has_blocks(wanted.after) or _has_blocks(seen.before):
        return False
    return seen.before != wanted.after and not noise(type_, wanted.path, seen.before, wanted.after)


def _has_blocks(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(one, Mapping) for one in value))


def _telling(change: ResourceChange) -> tuple[AttributeChange, ...]:
    return tuple(
        one
        for one in attribute_changes(change)
        if not noise(change.type, one.path, one.before, one.after, known=not (one.sensitive or one.unknown))
    )


def _same_place(one: AttributeChange, other: AttributeChange) -> bool:
    """Whether they are about the same attribute, or one about a part of the other."""
    shared = min(len(one.keys), len(other.keys))
    return one.keys[:shared] == other.keys[:shared]


def _change(one: AttributeChange, should: Any, found: Any) -> Change:
    return Change(one.path, MASK, MASK) if one.sensitive else Change(one.path, should, found)


def _output(document: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    item = document["output_changes"][name]
    if item.get("before_sensitive") or item.get("after_sensitive"):
        return MASK, MASK
    return item.get("after"), item.get("before")


def _places(document: Mapping[str, Any]) -> dict[str, Place]:
    """Guest and node, by VMID and by the name that the guest's resources have in common."""
    found: dict[str, Place] = {}
    for root in (document.get("prior_state", {}).get("values", {}), document.get("planned_values", {})):
        for resource in _resources(root.get("root_module", {})):
            values = resource.get("values", {})
            if resource.get("type") in _GUESTS:
                place = Place(str(values.get("name") or resource["name"]), str(values.get("node_name") or ""))
                found |= {str(values.get("vm_id")): place, str(resource["name"]): place}
    return found


def _resources(module: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from module.get("resources", ())
    for child in module.get("child_modules", ()):
        yield from _resources(child)
