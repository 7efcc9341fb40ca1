"""What every format says alike: the result in a sentence, values, the order of findings, what to do about one."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from labctl.model.drift.finding import Change, Finding, Kind, Severity, Verdict
from labctl.model.drift.report import DriftReport, Entry
from labctl.model.drift.summary import ACCEPTED, DRIFTED, PENDING, verdict_of

_RANK = {severity: number for number, severity in enumerate(Severity)}
_GUEST = re.compile(r"(?:qemu|lxc)/(\d+)")


def headline(report: DriftReport) -> str:
    """The result in one sentence, or two where something is not known."""
    unknown = unknown_places(report)
    parts = [f"{_listed(unknown)} could not be looked at, so this is not all."] if unknown else []
    drifted, pending, accepted = (sum(verdict_of(e) == v for e in report.entries) for v in (DRIFTED, PENDING, ACCEPTED))
    absent = sum(report.stack_verdict(stack) is Verdict.NOT_DEPLOYED for stack in report.stacks)
    said = []
    if drifted:
        new = sum(entry.new and entry.counts for entry in report.entries)
        said.append(
            f"{things(drifted)} not as described{f', {new} of them new since the last check' if new else ', none of them new'}"
        )
    if pending:
        said.append(f"{counted(pending, 'change')} in the code {'is' if pending == 1 else 'are'} not applied yet")
    if absent:
        said.append(f"{counted(absent, 'stack')} {'is' if absent == 1 else 'are'} not deployed")
    if not said and not unknown:
        places = f"{counted(len(report.stacks), 'stack')} and {counted(len(report.areas), 'area')}"
        said.append(f"all is as described ({places} looked at)")
    if accepted:
        said.append(f"{counted(accepted, 'difference')} {'is' if accepted == 1 else 'are'} accepted on purpose")
    sentence = "; ".join(said)
    return " ".join([*parts, f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""]).strip()


def unknown_places(report: DriftReport) -> list[str]:
    """Stacks and areas of which nothing, or not all, is known, with the reason in a word: `stack apps (locked)`."""
    lost = (Verdict.ERROR, Verdict.LOCKED)
    stacks = [f"stack {stack.name} ({stack.verdict})" for stack in report.stacks if stack.verdict in lost]
    return stacks + [f"area {area.name}" for area in report.areas if area.problems]


def problems(report: DriftReport) -> list[tuple[str, str, str]]:
    """What could not be looked at: where, why, what to do then."""
    stacks = [(stack.name, stack.problem or str(stack.verdict), stack.hint) for stack in report.stacks if stack.problem]
    silent = [
        (stack.name, f"the stack is {stack.verdict}" if stack.verdict is Verdict.LOCKED else "no reason is known", stack.hint)
        for stack in report.stacks
        if stack.verdict in (Verdict.ERROR, Verdict.LOCKED) and not stack.problem
    ]
    return [*stacks, *silent, *((area.name, text, "") for area in report.areas for text in area.problems)]


def things(number: int) -> str:
    """`1 thing is`, `3 things are`."""
    return "1 thing is" if number == 1 else f"{number} things are"


def counted(number: int, word: str) -> str:
    """`1 stack`, `2 stacks`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    text = f"{', '.join(others)} and {last}" if others else last
    return text[:1].upper() + text[1:]


def worst_first(entries: Iterable[Entry]) -> list[Entry]:
    """By severity, what drifted before what is pending; else as they came."""
    return sorted(entries, key=lambda entry: (not entry.counts, _RANK[entry.finding.severity]))


def new_entries(report: DriftReport) -> list[Entry]:
    """What the last check did not have and nobody accepted, the worst first."""
    return worst_first(entry for entry in report.entries if entry.new and not entry.accepted)


def open_entries(entries: Iterable[Entry]) -> list[Entry]:
    """What nobody accepted, the worst first."""
    return worst_first(entry for entry in entries if not entry.accepted)


def place_of(finding: Finding) -> str:
    """The stack that it is of, else the area."""
    return finding.stack if finding.area == "terraform" else finding.area


def where(finding: Finding) -> str:
    """`guest gitlab, node pve1`; empty where neither is known."""
    return ", ".join(f"{word} {name}" for word, name in (("guest", finding.guest), ("node", finding.node)) if name)


def label(entry: Entry) -> str:
    """`changed`, `deleted outside`, `not applied yet`: the kind in words."""
    return _LABELS.get(entry.finding.kind, str(entry.finding.kind))


_LABELS = {
    Kind.MISSING: "deleted outside",
    Kind.UNMANAGED: "not declared",
    Kind.PENDING: "not applied yet",
    Kind.EXPIRING: "about to expire",
    Kind.HIDDEN: "cannot be seen",
}


def remedy(entry: Entry) -> tuple[str, str]:
    """What to do about a finding: a clause, and the command in it; both may be empty, as may the command alone."""
    finding = entry.finding
    layer = f" --layer {shlex.quote(finding.layer)}" if finding.layer else ""
    terraform = finding.area == "terraform"
    if finding.kind is Kind.PENDING:
        return "apply it", f"labctl up{layer}"
    if finding.kind is Kind.MISSING:
        return "make it again", f"labctl up{layer}"
    if finding.kind is Kind.UNMANAGED and (found := _GUEST.fullmatch(finding.id)):
        return "once lab.yaml has its VMID, take it over", f"labctl import {found[1]}"
    if finding.kind is Kind.CHANGED and terraform:
        return "put it back", f"labctl drift fix {shlex.quote(finding.id)}"
    if finding.kind is Kind.CHANGED and finding.layer:
        return "put it back", f"labctl up{layer}"
    return "", ""


def acceptance(entry: Entry) -> str:
    """The command that accepts a finding; empty for what is only pending, or accepted already."""
    if entry.finding.kind is Kind.PENDING or entry.accepted:
        return ""
    return f"labctl drift accept {shlex.quote(entry.finding.id)} --until DATE --reason WHY"


def history(entry: Entry) -> str:
    """`new`, or `since 2026-01-28, seen 4 times`; what ran out is said too."""
    times = "new" if entry.new else f"since {entry.first_seen:%Y-%m-%d}, seen {counted(entry.seen, 'time')}"
    if entry.expired:
        owner = f" by {entry.expired.owner}" if entry.expired.owner else ""
        return f"{times}; was accepted{owner} until {entry.expired.until}"
    return times


def accepted_words(entry: Entry) -> str:
    """`until 2026-03-01, by ops: the reason`; empty where it is not accepted."""
    if entry.accepted is None:
        return ""
    owner = f", by {entry.accepted.owner}" if entry.accepted.owner else ""
    return f"until {entry.accepted.until}{owner}: {entry.accepted.reason}"


def change_words(change: Change) -> str:
    """`memory.dedicated: 2048 → 4096`."""
    return f"{change.path}: {shown(change.before)} → {shown(change.after)}"


def shown(value: Any) -> str:
    """A value as people read it, in one line."""
    if value is None:
        return "(none)"
    if isinstance(value, str):
        return " ".join(value.split()) or '""'
    return json.dumps(value, ensure_ascii=False, default=str)
