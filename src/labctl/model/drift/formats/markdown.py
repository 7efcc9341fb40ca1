"""The report for a merge request, an issue or a chat (GitHub's and GitLab's Markdown)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from labctl.model.drift.finding import Verdict
from labctl.model.drift.formats.words import (
    accepted_words,
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
from labctl.model.drift.report import DriftReport, Entry
from labctl.model.errors import sentences
from labctl.model.legible import legible, plain
from labctl.model.reportformats import duration

Block = tuple[list[str], frozenset[str]]
"""Lines that stay together, and what they are about: fingerprints, or other names of what would be missed without them."""


def as_markdown(report: DriftReport, limit: int | None = None, whole: str = "") -> str:
    """The report as Markdown.

    Args:
        report: The check.
        limit: The most characters, at least 500; GitLab takes 1,000,000 in a note, many a chat 4,000. None for no limit.
        whole: Where the rest is, as a sentence goes on: `in artifact drift.html of the job`.
    """
    head = [
        f"# Drift of lab {plain(report.lab)}: {report.result}",
        "",
        plain(headline(report)),
        "",
        f"Checked {report.at:%Y-%m-%d %H:%M} UTC on target {plain(report.target)}, took {duration(report.seconds)}.",
    ]
    blocks = [*_problems(report), *_new(report), _table(report), *_by_stack(report), *_rest(report)]
    return _fitted(head, blocks, limit, whole)


def _fitted(head: list[str], blocks: Sequence[Block], limit: int | None, whole: str) -> str:
    """Head and blocks; where all of it goes beyond the limit, the first ones that fit, and how much is missing."""
    texts = ["\n".join(head) + "\n", *("\n" + "\n".join(lines) + "\n" for lines, _ in blocks)]
    if limit is None or sum(map(len, texts)) <= limit:
        return "".join(texts)
    missing = frozenset[str]().union(*(names for _, names in blocks))
    room = limit - len(_cut(len(missing), whole)) - len("entries are")
    text = texts[0][:room]
    for more, (_, names) in zip(texts[1:], blocks, strict=True):
        if len(text) + len(more) > room:
            break
        text += more
        missing -= names
    return text + _cut(len(missing), whole)


def _cut(entries: int, whole: str) -> str:
    return f"\n*Cut here: {_entries(entries)} left out. The whole report is {plain(whole) or 'where the check ran'}.*\n"


def _entries(number: int) -> str:
    return "1 entry is" if number == 1 else f"{number} entries are"


def _problems(report: DriftReport) -> list[Block]:
    found = [f"- **{plain(place)}**: {plain(sentences(text, hint))}" for place, text, hint in problems(report)]
    return [(["## Could not be looked at", "", *found], frozenset(found))] if found else []


def _new(report: DriftReport) -> list[Block]:
    entries = new_entries(report)
    if not entries:
        return []
    first, *others = [(_item(entry), frozenset({entry.finding.fingerprint})) for entry in entries]
    return [(["## New since the last check", "", *first[0]], first[1]), *others]


def _item(entry: Entry) -> list[str]:
    clause, command = remedy(entry)
    way = f"To {clause}: {code(command)}" if command else ""
    return _broken([_head(entry), plain(entry.finding.text), way])


def _head(entry: Entry) -> str:
    finding = entry.finding
    place = f" on {plain(where(finding))}" if where(finding) else ""
    return f"- **{finding.severity}** · {label(entry)} · {plain(place_of(finding))}: {plain(finding.id)}{place}"


def _broken(lines: Sequence[str]) -> list[str]:
    """An item of a list, each line of it on its own: a backslash at its end breaks it, wherever it is shown."""
    return "\\\n  ".join(line for line in lines if line).split("\n")


def code(text: str) -> str:
    """`text` as code, in as many backticks as it takes."""
    line = " ".join(legible(text).split())
    fence = "`"
    while fence in line:
        fence += "`"
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _table(report: DriftReport) -> Block:
    rows = ["| stack or area | layer | verdict | open | new | accepted |", "|---|---|---|--:|--:|--:|"]
    rows += [_row(one.name, one.layer, report.stack_verdict(one), report.of_stack(one.name)) for one in report.stacks]
    rows += [_row(area.name, "", report.area_verdict(area), report.of_area(area.name)) for area in report.areas]
    return ["## All", "", *rows], frozenset()


def _row(name: str, layer: str, verdict: Verdict, entries: Sequence[Entry]) -> str:
    kept = open_entries(entries)
    figures = (len(kept), sum(entry.new for entry in kept), len(entries) - len(kept))
    cells = (plain(name), plain(layer), _bold(verdict), *(str(number) if number else "" for number in figures))
    return f"| {' | '.join(cells)} |"


def _bold(verdict: Verdict) -> str:
    return str(verdict) if verdict is Verdict.CLEAN else f"**{verdict}**"


def _by_stack(report: DriftReport) -> list[Block]:
    blocks: list[Block] = []
    groups = [(f"stack {stack.name}", report.of_stack(stack.name)) for stack in report.stacks]
    groups += [(f"area {area.name}", report.of_area(area.name)) for area in report.areas]
    for name, entries in groups:
        if kept := open_entries(entries):
            lines = [line for entry in kept for line in _details(entry)]
            blocks.append(
                (_folded(f"{name}: {counted(len(kept), 'finding')}", lines), frozenset(e.finding.fingerprint for e in kept))
            )
    return blocks


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    line = escape(" ".join(legible(title).split()))
    return ["<details>", f"<summary>{line}</summary>", "", *lines, "", "</details>"]


def _details(entry: Entry) -> list[str]:
    lines = [_head(entry), plain(entry.finding.text), plain(history(entry))]
    return [*_broken(lines), *(f"  - {plain(change_words(change))}" for change in entry.finding.changes)]


def _rest(report: DriftReport) -> list[Block]:
    accepted = [entry for entry in report.entries if entry.accepted]
    groups = (
        ("Accepted on purpose", [f"- {plain(entry.finding.id)} {plain(accepted_words(entry))}" for entry in accepted]),
        ("Gone since the last check", [f"- {plain(old.place)}: {plain(old.id)}" for old in report.gone]),
        (
            "Entries of drift.yaml that match nothing",
            [f"- {plain(entry.id)} (until {entry.until}): {plain(entry.reason)}" for entry in report.unused],
        ),
        ("Notes", [f"- {plain(area.name)}: {plain(note)}" for area in report.areas for note in area.notes]),
    )
    blocks = [(_folded(f"{title} ({len(lines)})", lines), frozenset(lines)) for title, lines in groups if lines]
    warnings = [f"- {plain(text)}" for text in report.warnings]
    return [*blocks, (["## Warnings", "", *warnings], frozenset(warnings))] if warnings else blocks
