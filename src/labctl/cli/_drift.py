"""A drift report for people. Pure but for `show_drift`: lines out of a report."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labctl.cli._terminal import colour, cut, width
from labctl.model.drift.finding import Verdict
from labctl.model.drift.formats.words import (
    change_words,
    counted,
    headline,
    history,
    label,
    new_entries,
    open_entries,
    place_of,
    problems,
    remedy,
    where,
)
from labctl.model.errors import sentences
from labctl.model.legible import legible

if TYPE_CHECKING:
    from labctl.model.drift.finding import Finding
    from labctl.model.drift.report import DriftReport, Entry

Paint = Callable[[str, str], str]

_TONES = {"clean": "green", "drifted": "red", "drift": "red", "error": "red", "pending": "yellow", "locked": "yellow"}
_SIGNS = {True: ("≠", "red"), False: ("~", "yellow")}
"""Of a finding that counts as drift, and of one that is only pending; the words say it too."""
_MOST_CHANGES = 8
_CONTROL = re.compile("[\x7f-\x9f]")


def show_drift(report: DriftReport) -> None:
    """Prints the report, warnings on stderr."""
    for line in drift_lines(report, width(), lambda text, tone: colour(text, tone, sys.stdout)):
        print(line)
    sys.stdout.flush()
    for text in report.warnings:
        print(f"{colour('warning:', 'yellow', sys.stderr)} {_line(text)}", file=sys.stderr)


def drift_lines(report: DriftReport, columns: int, paint: Paint = lambda text, _tone: text) -> list[str]:
    """The lines of the report. Only what somebody may copy, an address or a command, is longer than `columns`.

    Args:
        report: The check.
        columns: How wide a line may be.
        paint: Gives a text its colour; by default there is none.
    """
    first, *rest = textwrap.wrap(_line(headline(report)), columns) or [report.result]
    lines = [paint(line, _TONES.get(report.result, "bold")) for line in (first, *rest)]
    lines += _problems(report, columns, paint)
    new = new_entries(report)
    if new:
        lines += ["", paint("new since the last check", "bold")]
        for entry in new:
            lines += _entry(entry, columns, paint, place=True)
    lines += _places(report, columns, paint)
    lines += _rest(report, columns)
    return lines


def _problems(report: DriftReport, columns: int, paint: Paint) -> list[str]:
    found = problems(report)
    if not found:
        return []
    lines = ["", paint("could not be looked at", "bold")]
    for place, text, hint in found:
        lines += _wrapped(f"{place}: {sentences(text, hint)}", columns, f"  {paint('✕', 'red')} ", "    ")
    return lines


def _places(report: DriftReport, columns: int, paint: Paint) -> list[str]:
    """Stacks in their order, then areas; those that are clean share a line."""
    places = [(f"stack {one.name}", report.stack_verdict(one), report.of_stack(one.name), one.hint) for one in report.stacks]
    places += [(f"area {one.name}", report.area_verdict(one), report.of_area(one.name), "") for one in report.areas]
    lines = [""]
    clean = []
    for name, verdict, entries, hint in places:
        kept = open_entries(entries)
        if verdict is Verdict.CLEAN and not kept:
            clean.append(name)
            continue
        accepted = len(entries) - len(kept)
        facts = [counted(len(kept), "finding")] if kept else []
        facts += [f"{accepted} accepted"] if accepted else []
        head = paint(_line(name), "bold") + f": {paint(str(verdict), _TONES.get(verdict, ''))}"
        lines.append(head + (f" ({', '.join(facts)})" if facts else ""))
        if verdict is Verdict.NOT_DEPLOYED and hint:
            lines += _wrapped(hint, columns, "      ", "      ")
        known = [entry for entry in kept if not entry.new]
        for entry in known:
            lines += _entry(entry, columns, paint, place=False)
        if len(known) < len(kept):
            lines.append(f"      {len(kept) - len(known)} new, see above")
    if clean and report.result != "clean":
        lines += _wrapped(f"clean: {', '.join(clean)}", columns, "", "  ")
    return lines if len(lines) > 1 else []


def _entry(entry: Entry, columns: int, paint: Paint, *, place: bool) -> list[str]:
    """A finding: what it is, what differs, what to do."""
    finding = entry.finding
    sign, tone = _SIGNS[entry.counts]
    words = f"{finding.severity}, {label(entry)}"
    head = f"{words}  {_named(finding, place=place)}"
    facts = "" if entry.new else f"  {history(entry)}"
    lines = [f"  {paint(sign, tone)} {head}"]
    if len(head) + 4 > columns:
        lines = [f"  {paint(sign, tone)} {words}", f"      {_named(finding, place=place)}"]
    if facts and len(lines) == 1 and len(head) + len(facts) + 4 <= columns:
        lines[0] += paint(facts, "dim")
    elif facts:
        lines += [paint(line, "dim") for line in _wrapped(facts, columns, "      ", "      ")]
    about = finding.text + (f" ({where(finding)})" if where(finding) else "")
    lines += _wrapped(about, columns, "      ", "      ")
    lines += [cut(f"      {_line(change_words(change))}", columns) for change in finding.changes[:_MOST_CHANGES]]
    more = len(finding.changes) - _MOST_CHANGES
    lines += [f"      … {counted(more, 'more attribute')}"] if more > 0 else []
    clause, command = remedy(entry)
    return [*lines, f"      {clause}: `{_line(command)}`"] if command else lines


def _named(finding: Finding, *, place: bool) -> str:
    return _line(f"{place_of(finding)}: {finding.id}" if place else finding.id)


def _line(text: str) -> str:
    """In one line, and without what a terminal would obey."""
    return _CONTROL.sub("\ufffd", " ".join(legible(text).split()))


def _rest(report: DriftReport, columns: int) -> list[str]:
    accepted = [f"{entry.finding.id} (until {entry.accepted.until})" for entry in report.entries if entry.accepted]
    gone = [f"{old.place}: {old.id}" for old in report.gone]
    unused = [f"{entry.id} (until {entry.until}, {entry.reason})" for entry in report.unused]
    notes = [f"{area.name}: {note}" for area in report.areas for note in area.notes]
    said = (
        (f"accepted on purpose, {len(accepted)}", accepted),
        ("gone since the last check", gone),
        ("in drift.yaml, but about nothing", unused),
        ("note", notes),
    )
    lines = [line for name, texts in said if texts for line in _wrapped(f"{name}: {'; '.join(texts)}", columns, "", "  ")]
    if any(entry.counts for entry in report.entries):
        lines.append("accept one: `labctl drift accept ADDRESS --until DATE --reason WHY`")
    return ["", *lines] if lines else []


def _wrapped(text: str, columns: int, first: str, others: str) -> Sequence[str]:
    """The text in lines; what stands before the first one may hold a colour, and is as wide as what stands before the others."""
    found = textwrap.wrap(_line(text), max(20, columns - len(others)), break_on_hyphens=False)
    return [f"{others if number else first}{line}" for number, line in enumerate(found)]
