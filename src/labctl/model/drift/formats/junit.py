"""The report for a CI's test view: a layer is a suite and a stack a case; an area is a suite with one case."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from labctl.model import junit
from labctl.model.drift.finding import AreaDrift, StackDrift, Verdict
from labctl.model.drift.formats.words import (
    change_words,
    counted,
    history,
    label,
    open_entries,
    remedy,
    things,
)
from labctl.model.drift.report import DriftReport, Entry
from labctl.model.legible import legible


def as_junit(report: DriftReport) -> str:
    """The report as JUnit XML.

    What drifted or was not applied is a failure, with the verdict as its type, and what could not be looked at an error: a CI
    must not take a check for a good one that labctl does not.
    """
    root = ET.Element("testsuites", name=legible(f"labctl drift {report.lab}"), time=f"{report.seconds:.3f}")
    began = report.at.isoformat()
    for layer in dict.fromkeys(stack.layer for stack in report.stacks):
        suite = junit.suite(root, layer, began)
        for stack in report.stacks:
            if stack.layer == layer:
                _stack(suite, stack, report)
    for area in report.areas:
        _area(junit.suite(root, area.name, began), area, report)
    return junit.written(root)


def _stack(suite: ET.Element, stack: StackDrift, report: DriftReport) -> None:
    case = junit.case(suite, stack.name, f"{report.lab}.{stack.layer}", stack.seconds)
    entries = open_entries(report.of_stack(stack.name))
    verdict = report.stack_verdict(stack)
    if verdict in (Verdict.ERROR, Verdict.LOCKED):
        reason = "\n".join(part for part in (stack.problem, stack.hint) if part)
        junit.verdict(case, "error", stack.problem or str(verdict), _text(reason, entries), str(verdict))
    elif verdict is Verdict.NOT_DEPLOYED:
        junit.verdict(case, "failure", "not deployed", _text(stack.hint, entries), str(verdict))
    elif verdict is not Verdict.CLEAN:
        junit.verdict(case, "failure", _message(entries, verdict), _text("", entries), str(verdict))


def _area(suite: ET.Element, area: AreaDrift, report: DriftReport) -> None:
    case = junit.case(suite, area.name, f"{report.lab}.{area.name}", area.seconds)
    entries = open_entries(report.of_area(area.name))
    if area.problems:
        junit.verdict(case, "error", area.problems[0], _text("\n".join(area.problems), entries), str(Verdict.ERROR))
    elif report.area_verdict(area) is not Verdict.CLEAN:
        junit.verdict(case, "failure", _message(entries, Verdict.DRIFTED), _text("", entries), str(Verdict.DRIFTED))


def _message(entries: Sequence[Entry], verdict: Verdict) -> str:
    if verdict is Verdict.PENDING:
        return f"{counted(len(entries), 'change')} not applied yet"
    return f"{things(sum(entry.counts for entry in entries))} not as described"


def _text(reason: str, entries: Sequence[Entry]) -> str:
    lines = [reason] if reason else []
    for entry in entries:
        lines.append(f"{entry.finding.severity} · {label(entry)} · {entry.finding.id} ({history(entry)})")
        lines.append(f"    {entry.finding.text}")
        lines += [f"    {change_words(change)}" for change in entry.finding.changes]
        clause, command = remedy(entry)
        lines += [f"    {clause}: {command}"] if command else []
    return "\n".join(lines)
