"""Which GitLab issues to open, update, reopen and close: one for each thing that drifted, told apart by its fingerprint.

What is only pending gets none: after a merge everything is, and the report tells of it. An issue is known by a mark in its
description, which has the lab's name: several labs may share a project. What people write around the marked part is let be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.model.drift.finding import Verdict
from labctl.model.drift.formats.markdown import code
from labctl.model.drift.formats.words import (
    acceptance,
    accepted_words,
    change_words,
    counted,
    label,
    place_of,
    remedy,
    where,
    worst_first,
)
from labctl.model.drift.report import DriftReport, Entry
from labctl.model.legible import plain

LABEL = "labctl-drift"
MOST_NEW = 20
"""New and reopened issues a check: a lab that is gone altogether is one piece of news, not five hundred."""
_TITLE = 255  # GitLab's limit
_BODY = 100_000  # GitLab takes 1,048,576 characters
_END = "<!-- labctl-drift end -->"
_MARK = re.compile(r"<!-- labctl-drift lab=(\S+) place=(\S+) fingerprint=([0-9a-f]{16}) -->")
_SEEN = re.compile(r"^Found by \d+ checks? in a row.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue with the label, as GitLab has it.

    Attributes:
        number: Within its project (`iid`).
        open: Nobody closed it.
        description: Markdown.
    """

    number: int
    open: bool
    description: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to do in GitLab.

    Attributes:
        action: `open`, `update`, `reopen` or `close`.
        number: The issue; None for one that is to be opened.
        title: Of a new issue, else "".
        description: The new description; "" leaves it as it is.
        note: What to say below it; "" for nothing.
    """

    action: str
    number: int | None = None
    title: str = ""
    description: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Notices:
    """All that is to be done, and how many findings get no issue this time."""

    todo: tuple[Notice, ...]
    left_out: int = 0


def notices(report: DriftReport, issues: Iterable[Issue], most_new: int = MOST_NEW) -> Notices:
    """What a check means for the issues.

    Args:
        report: The check.
        issues: All issues with the label, closed ones too; those of other labs are let be.
        most_new: How many may be opened or reopened.
    """
    known = _by_fingerprint(report.lab, issues)
    todo: list[Notice] = []
    fresh: list[Notice] = []
    drifted = {e.finding.fingerprint: e for e in worst_first(e for e in report.entries if e.counts)}
    for fingerprint, entry in drifted.items():
        of_it = known.get(fingerprint, [])
        if still := next((issue for issue, _ in of_it if issue.open), None):
            todo += _update(report, entry, still)
        elif of_it:
            issue = of_it[-1][0]
            fresh.append(Notice("reopen", issue.number, "", _merged(issue.description, _body(report, entry)), _back(entry)))
        else:
            fresh.append(Notice("open", None, _title(report, entry), _body(report, entry)))
    accepted = {e.finding.fingerprint: e for e in report.entries if e.accepted}
    for fingerprint, of_it in known.items():
        if fingerprint not in drifted and (reason := _over(report, fingerprint, of_it[0][1], accepted)):
            todo += [Notice("close", issue.number, note=reason) for issue, _ in of_it if issue.open]
    return Notices((*todo, *fresh[:most_new]), len(fresh) - len(fresh[:most_new]))


def _by_fingerprint(lab: str, issues: Iterable[Issue]) -> dict[str, list[tuple[Issue, str]]]:
    """The lab's issues with their places, the oldest first."""
    found: dict[str, list[tuple[Issue, str]]] = {}
    for issue in sorted(issues, key=lambda one: one.number):
        mark = _MARK.search(issue.description)
        if mark and mark[1] == _word(lab):
            found.setdefault(mark[3], []).append((issue, mark[2]))
    return found


def _over(report: DriftReport, fingerprint: str, place: str, accepted: dict[str, Entry]) -> str:
    """Why an issue is done with; empty where it is not, or where nobody knows."""
    if entry := accepted.get(fingerprint):
        return f"Accepted {plain(accepted_words(entry))}"
    if any(old.fingerprint == fingerprint for old in report.gone) or place in _looked(report):
        return f"No longer so at the check of {report.at:%Y-%m-%d %H:%M} UTC."
    return ""


def _looked(report: DriftReport) -> set[str]:
    """Places of which all is known: what is not found there is gone."""
    lost = (Verdict.ERROR, Verdict.LOCKED)
    stacks = {_word(stack.name) for stack in report.stacks if stack.verdict not in lost}
    return stacks | {_word(area.name) for area in report.areas if not area.problems}


def _update(report: DriftReport, entry: Entry, issue: Issue) -> Sequence[Notice]:
    """A new description, silently; with a note where more than the count of nights differs."""
    description = _merged(issue.description, _body(report, entry))
    if description == issue.description:
        return ()
    changed = _SEEN.sub("", description) != _SEEN.sub("", issue.description)
    return (Notice("update", issue.number, "", description, _now(entry) if changed else ""),)


def _now(entry: Entry) -> str:
    return "\n".join([f"It has changed: {plain(entry.finding.text)}", "", *_changes(entry)]).rstrip()


def _back(entry: Entry) -> str:
    if entry.new:
        return f"It is back: {plain(entry.finding.text)}"
    if entry.expired:
        return f"It was accepted until {entry.expired.until}, and is still so: {plain(entry.finding.text)}"
    return f"Closed, but still so: {plain(entry.finding.text)}"


def _title(report: DriftReport, entry: Entry) -> str:
    finding = entry.finding
    text = " ".join(f"{report.lab}: {finding.text or finding.id}".split())
    return text if len(text) <= _TITLE else f"{text[: _TITLE - 1]}…"


def _body(report: DriftReport, entry: Entry) -> str:
    finding = entry.finding
    names = f"lab={_word(report.lab)} place={_word(place_of(finding))} fingerprint={finding.fingerprint}"
    place = f", {plain(where(finding))}" if where(finding) else ""
    lines = [
        f"<!-- labctl-drift {names} -->",
        f"**{finding.severity}** · {label(entry)} · {plain(place_of(finding))}{place}",
        "",
        _sentence(finding.text),
        "",
        f"Address: {_code(finding.id)}",
        "",
        *_changes(entry),
    ]
    clause, command = remedy(entry)
    lines += [f"To {clause}: {_code(command)}", ""] if command else []
    lines += [f"To accept it: {_code(acceptance(entry))}", ""] if acceptance(entry) else []
    seen = f"Found by {counted(entry.seen, 'check')} in a row"
    lines += [f"{seen} since {entry.first_seen:%Y-%m-%d}, last {report.at:%Y-%m-%d %H:%M} UTC.", ""]
    lines.append("labctl closes this issue by itself when it is no longer so, or is accepted.")
    return _short("\n".join(lines)) + f"\n{_END}"


def _changes(entry: Entry) -> list[str]:
    changes = [f"- {plain(change_words(change))}" for change in entry.finding.changes]
    return [*changes, ""] if changes else []


def _sentence(text: str) -> str:
    """A text as a line of its own. A slash at its beginning would be an order to GitLab, as in `/close`."""
    line = plain(text)
    return f"\\{line}" if line.startswith("/") else line


def _code(text: str) -> str:
    """As code, in which no mark can stand."""
    return code(text).replace("<!--", "<! --")


def _short(text: str) -> str:
    return text if len(text) <= _BODY else f"{text[:_BODY]}…\n\nThe rest is in the report."


def _merged(old: str, new: str) -> str:
    """The old description with its marked part made anew."""
    mark = _MARK.search(old)
    if mark is None:
        return new
    head, rest = old[: mark.start()], old[mark.end() :]
    _, end, tail = rest.partition(_END)
    return head + new + (tail if end else "")


def _word(text: str) -> str:
    """A name as it can stand in the mark."""
    return re.sub(r"[^A-Za-z0-9_./:+-]", "_", text).replace("--", "-_") or "_"
