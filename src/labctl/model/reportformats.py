"""A run's report as Markdown, for a merge request or a chat, and as JUnit XML, for a CI's test view. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from labctl.model import junit
from labctl.model.legible import legible, plain
from labctl.model.report import (
    BLOCKED,
    CHANGED,
    CUT_OFF,
    FAILED,
    INTERRUPTED,
    NOT_STARTED,
    RUNNING,
    RunReport,
    StackResult,
    critical_path,
)

_DONE = {
    "add": "added",
    "change": "changed",
    "replace": "replaced",
    "destroy": "destroyed",
    "import": "imported",
    "move": "moved",
    "forget": "forgotten",
}


def duration(seconds: float) -> str:
    """`4.2 s`, `3m 05s`, `2h 07m`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def moment(began: str) -> str:
    """`2026-01-31 08:15:00` from an ISO time."""
    return began[:19].replace("T", " ")


def counts_words(counts: Mapping[str, int]) -> str:
    """`8 added, 1 changed`; empty where there is nothing."""
    return ", ".join(f"{counts[name]} {word}" for name, word in _DONE.items() if counts.get(name))


def resources(stack: StackResult) -> str:
    """`8 added` where that was done, `8 to add` where it was only planned, or did not end well."""
    if stack.result in CHANGED:
        return counts_words(stack.counts)
    return ", ".join(f"{stack.counts[name]} to {name}" for name in _DONE if stack.counts.get(name))


def why(stack: StackResult) -> str:
    """The reason in one line, with the stack to blame where the reason does not name it."""
    reason = " ".join(stack.reason.split())
    if stack.blame and stack.blame not in reason:
        return f"{stack.blame} failed{': ' + reason if reason else ''}"
    return reason


def as_markdown(report: RunReport) -> str:
    """The report as Markdown (GitHub's and GitLab's)."""
    began = f"began {plain(moment(report.began))} UTC"
    lines = [
        f"# labctl {plain(report.command)}: {plain(report.result)}",
        "",
        f"Lab {plain(report.lab)}, run {plain(report.id)}, {began}, took {duration(report.seconds)}.",
    ]
    if report.error:
        lines += ["", f"> **Error:** {plain(report.error)}"]
        lines += [">", f"> {plain(report.hint)}"] if report.hint else []
    if report.stacks:
        lines += ["", "| stack | layer | result | resources | took | why |", "|---|---|---|---|--:|---|"]
        lines += [_row(stack) for stack in report.stacks]
    path = critical_path(report)
    if path:
        lines += ["", "## What the time went into", ""]
        for number, step in enumerate(path, 1):
            waited = f", after {duration(step.waited_s)} {_waiting(number)}" if step.waited_s >= 0.05 else ""
            lines.append(f"{number}. {plain(step.name)}: {duration(step.seconds)}{waited}")
    if report.steps:
        lines += ["", "## Steps", "", *(f"- {plain(step)}" for step in report.steps)]
    return "\n".join(lines) + "\n"


def _waiting(number: int) -> str:
    return "of preparing and planning" if number == 1 else "of waiting"


def _row(stack: StackResult) -> str:
    took = duration(stack.seconds) if stack.seconds is not None else ""
    cells = (plain(stack.name), plain(stack.layer), plain(stack.result), resources(stack), took, plain(why(stack)))
    return f"| {' | '.join(cells)} |"


def as_junit(report: RunReport) -> str:
    """The report as JUnit XML: a layer is a test suite, a stack a test case.

    A stack that failed is a failure, an interrupted one an error, one that did not start is skipped. Where the run itself failed
    and no stack can tell, a case of its own says so: a CI must not take it for a good one.
    """
    root = ET.Element("testsuites", name=legible(f"labctl {report.command}"), time=f"{report.seconds:.3f}")
    for layer in dict.fromkeys(stack.layer for stack in report.stacks):
        suite = junit.suite(root, layer, report.began)
        for stack in report.stacks:
            if stack.layer == layer:
                _case(suite, stack, report)
    silent = not any(stack.result in (FAILED, INTERRUPTED) for stack in report.stacks)
    if silent and report.result in (FAILED, INTERRUPTED, CUT_OFF):
        suite = junit.suite(root, "run", report.began)
        case = junit.case(suite, report.command, report.lab, 0.0)
        junit.verdict(case, "failure", report.result, f"{report.error or report.result}\n{report.hint}".strip())
    return junit.written(root)


FORMATS = {"markdown": as_markdown, "junit": as_junit}


def _case(suite: ET.Element, stack: StackResult, report: RunReport) -> None:
    case = junit.case(suite, stack.name, f"{report.lab}.{stack.layer}", stack.seconds or 0.0)
    if stack.result == FAILED:
        junit.verdict(
            case, "failure", why(stack) or report.error or FAILED, f"{stack.reason or report.error}\n{report.hint}".strip()
        )
    elif stack.result == INTERRUPTED:
        junit.verdict(case, "error", why(stack) or INTERRUPTED, stack.reason)
    elif stack.result in (BLOCKED, NOT_STARTED, RUNNING):
        junit.verdict(case, "skipped", why(stack) or stack.result, "")
