"""A whole drift check: stacks, areas, and each finding with its history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from labctl.model.drift.finding import AreaDrift, Finding, Kind, StackDrift, Verdict

if TYPE_CHECKING:
    from labctl.model.drift.acceptance import Acceptance
    from labctl.model.drift.memory import Remembered

SCHEMA = 1
"""Version of the JSON report. New fields do not change it."""
_UNKNOWN = frozenset({Verdict.ERROR, Verdict.LOCKED})
_OPEN = frozenset({Verdict.PENDING, Verdict.NOT_DEPLOYED})


@dataclass(frozen=True, slots=True)
class Entry:
    """A finding with what is known about it.

    Attributes:
        first_seen: When a check found it first (UTC).
        seen: How many checks in a row have found it, this one too.
        new: The last check did not have it.
        accepted: The entry of `drift.yaml` that lets it be, None without.
        expired: An entry of `drift.yaml` that let it be until it ran out, None without.
    """

    finding: Finding
    first_seen: datetime
    seen: int = 1
    new: bool = True
    accepted: Acceptance | None = None
    expired: Acceptance | None = None

    @property
    def counts(self) -> bool:
        """Whether it makes its stack or area drifted: not what is accepted, nor what is only pending."""
        return self.accepted is None and self.finding.kind is not Kind.PENDING


@dataclass(frozen=True, slots=True)
class DriftReport:
    """One check of one lab.

    Attributes:
        lab: Its name.
        target: `proxmox` or `sandbox`.
        at: When it began (UTC).
        seconds: How long it took.
        stacks: In the order of their layers.
        areas: The world beside the states.
        entries: All findings of stacks and areas.
        gone: What the last check had and this one looked for and no longer found.
        unused: Entries of `drift.yaml` that match nothing.
        warnings: Sentences about the check itself: a notification that failed, say.
    """

    lab: str
    target: str
    at: datetime
    seconds: float
    stacks: tuple[StackDrift, ...] = ()
    areas: tuple[AreaDrift, ...] = ()
    entries: tuple[Entry, ...] = ()
    gone: tuple[Remembered, ...] = ()
    unused: tuple[Acceptance, ...] = ()
    warnings: tuple[str, ...] = ()

    def stack_verdict(self, stack: StackDrift) -> Verdict:
        """The stack's verdict once what is accepted is left out."""
        if stack.verdict is not Verdict.DRIFTED or any(e.counts for e in self.of_stack(stack.name)):
            return stack.verdict
        return Verdict.PENDING if any(e.finding.kind is Kind.PENDING for e in self.of_stack(stack.name)) else Verdict.CLEAN

    def area_verdict(self, area: AreaDrift) -> Verdict:
        """The area's verdict once what is accepted is left out."""
        if area.verdict is not Verdict.DRIFTED or any(e.counts for e in self.of_area(area.name)):
            return area.verdict
        return Verdict.CLEAN

    def of_stack(self, name: str) -> tuple[Entry, ...]:
        """What Terraform found in a stack."""
        return tuple(e for e in self.entries if e.finding.area == "terraform" and e.finding.stack == name)

    def of_area(self, name: str) -> tuple[Entry, ...]:
        """What was found in an area."""
        return tuple(e for e in self.entries if e.finding.area == name)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of all stacks and areas."""
        return (*(self.stack_verdict(stack) for stack in self.stacks), *(self.area_verdict(area) for area in self.areas))

    @property
    def result(self) -> str:
        """`error` where anything is unknown, else `drift`, else `pending`, else `clean`."""
        found = set(self.verdicts)
        if found & _UNKNOWN:
            return "error"
        if Verdict.DRIFTED in found:
            return "drift"
        return "pending" if found & _OPEN else "clean"

    @property
    def exit_code(self) -> int:
        """0 all as described · 2 something is not · 1 something is not known: a partial check is never clean."""
        return {"clean": 0, "error": 1}.get(self.result, 2)

    def with_warning(self, text: str) -> DriftReport:
        """The same with one more warning."""
        return replace(self, warnings=(*self.warnings, text))


def untold(stacks: Iterable[StackDrift], areas: Iterable[AreaDrift]) -> tuple[AreaDrift, ...]:
    """The areas without what a stack's plan has found too: that a guest is gone is told once.

    An area calls what Terraform made by its address, and an attribute by Terraform's path.
    """
    kinds, paths = set(), set()
    for finding in (finding for stack in stacks for finding in stack.findings):
        kinds.add((finding.stack, finding.id, finding.kind))
        paths |= {(finding.stack, finding.id, change.path) for change in finding.changes}

    def told(finding: Finding) -> bool:
        if finding.changes:
            return all((finding.stack, finding.id, change.path) in paths for change in finding.changes)
        return (finding.stack, finding.id, finding.kind) in kinds

    return tuple(replace(area, findings=tuple(one for one in area.findings if not told(one))) for area in areas)
