"""The report as one page for a browser: no script, no network, light and dark, from a phone's width up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from labctl.model.drift.finding import Change
from labctl.model.drift.formats import htmlmap
from labctl.model.drift.formats._htmlstyle import STYLE
from labctl.model.drift.formats.htmlmap import Spot, badge
from labctl.model.drift.formats.words import (
    acceptance,
    accepted_words,
    counted,
    headline,
    history,
    label,
    new_entries,
    open_entries,
    place_of,
    problems,
    remedy,
    shown,
    where,
)
from labctl.model.drift.report import DriftReport, Entry
from labctl.model.drift.summary import RunSummary, verdict_of
from labctl.model.errors import sentences
from labctl.model.legible import legible
from labctl.model.reportformats import duration

MOST_RUNS = 14
"""How many checks the history shows: two weeks of nights."""
_VALUE = 300
"""Characters of a value; a whole cloud-init document is of no use in a table."""


def as_html(report: DriftReport, runs: Sequence[RunSummary] = (), spots: Iterable[Spot] = ()) -> str:
    """The page.

    Args:
        report: The check.
        runs: Earlier checks, the oldest first; the newest `MOST_RUNS` are shown, with this one.
        spots: The guests and services of the lab, for the map; those with findings are on it anyway.
    """
    title = f"Drift of lab {report.lab}: {report.result}"
    parts = (
        _header(report),
        _figures(report),
        _problems(report),
        htmlmap.as_map(report, tuple(spots)),
        _new(report),
        _known(report),
        _rest(report),
        _history(report, runs),
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{"".join(parts)}<footer>Made by labctl drift, {report.at:%Y-%m-%d %H:%M} UTC. This page loads nothing.</footer>
</main>
</body>
</html>
"""


def _text(value: Any) -> str:
    return escape(legible(str(value)))


def _header(report: DriftReport) -> str:
    return f"""<header class="sheet {report.result}">
<div class="top"><h1>Drift of lab {_text(report.lab)}</h1>{badge(report.result)}</div>
<p class="headline">{_text(headline(report))}</p>
<p class="soft">Checked <time datetime="{report.at.isoformat()}">{report.at:%Y-%m-%d %H:%M} UTC</time>
on target {_text(report.target)}, took {duration(report.seconds)}.</p>
</header>
"""


def _figures(report: DriftReport) -> str:
    counts = RunSummary.of(report).counts
    figures = (
        ("new since last", counts["new"], "drifted"),
        ("drifted", counts["drifted"], "drifted"),
        ("not applied yet", counts["pending"], "pending"),
        ("accepted", counts["accepted"], "accepted"),
        ("not looked at", len(problems(report)), "error"),
        ("gone since last", len(report.gone), "clean"),
    )
    cells = (
        f'<div class="sheet {tone}{" some" if number else ""}"><dt>{name}</dt><dd>{number}</dd></div>\n'
        for name, number, tone in figures
    )
    return f'<dl class="figures">\n{"".join(cells)}</dl>\n'


def _section(title: str, inner: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{inner}</section>\n" if inner else ""


def _problems(report: DriftReport) -> str:
    found = (
        f'<div class="sheet problem error"><b>{_text(place)}</b>: {_text(sentences(text, hint))}</div>\n'
        for place, text, hint in problems(report)
    )
    warned = (f'<div class="sheet problem accepted"><b>warning</b>: {_text(text)}</div>\n' for text in report.warnings)
    return _section("Could not be looked at", "".join(found)) + _section("Warnings", "".join(warned))


def _new(report: DriftReport) -> str:
    return _section("New since the last check", "".join(_finding(entry) for entry in new_entries(report)))


def _known(report: DriftReport) -> str:
    groups = [(f"Stack {stack.name}", report.of_stack(stack.name)) for stack in report.stacks]
    groups += [(f"Area {area.name}", report.of_area(area.name)) for area in report.areas]
    kept = [(name, [entry for entry in open_entries(entries) if not entry.new]) for name, entries in groups]
    return _section(
        "Known before",
        "".join(f"<h3>{_text(name)}</h3>\n{''.join(map(_finding, entries))}" for name, entries in kept if entries),
    )


def _finding(entry: Entry) -> str:
    finding = entry.finding
    facts = " · ".join(part for part in (f"in {place_of(finding)}", where(finding), history(entry)) if part)
    rows = "".join(map(_change, finding.changes))
    table = (
        f'<table class="changes"><thead><tr><th scope="col">attribute</th><th scope="col">as described</th>'
        f'<th scope="col">as it is</th></tr></thead>\n<tbody>{rows}</tbody></table>\n'
        if rows
        else ""
    )
    clause, command = remedy(entry)
    ways = [(clause, command), ("accept it", acceptance(entry))]
    remedies = "".join(f"<li>{_text(way)}: <code>{_text(line)}</code></li>" for way, line in ways if line)
    return f"""<article class="sheet finding {verdict_of(entry)}" id="finding-{finding.fingerprint}">
<div class="head">{badge(verdict_of(entry))}<span class="severity {finding.severity}">{finding.severity}</span>
<span class="address">{_text(finding.id)}</span> <span class="soft">{_text(label(entry))}</span></div>
<p class="text">{_text(finding.text)}</p>
<p class="facts">{_text(facts)}</p>
{table}{f'<ul class="remedies">{remedies}</ul>' if remedies else ""}
</article>
"""


def _change(change: Change) -> str:
    before, after = _short(shown(change.before)), _short(shown(change.after))
    return (
        f'<tr><th scope="row" class="change">{_text(change.path)}</th>'
        f'<td class="change" data-name="as described:">{_text(before)}</td>'
        f'<td class="change" data-name="as it is:"><span class="after">{_text(after)}</span></td></tr>\n'
    )


def _short(text: str) -> str:
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"


def _rest(report: DriftReport) -> str:
    accepted = [entry for entry in report.entries if entry.accepted]
    notes = [(area.name, note) for area in report.areas for note in area.notes]
    groups = (
        ("Accepted on purpose", [(e.finding.id, f"{accepted_words(e)} — {e.finding.text}") for e in accepted]),
        ("Gone since the last check", [(old.id, f"in {old.place}: {old.text}") for old in report.gone]),
        (
            "Entries of drift.yaml that match nothing",
            [(one.id, f"until {one.until}: {one.reason}") for one in report.unused],
        ),
        ("Notes", notes),
    )
    return _section("Also", "".join(_folded(title, rows) for title, rows in groups if rows))


def _folded(title: str, rows: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<li><span class="address">{_text(name)}</span> {_text(text)}</li>\n' for name, text in rows)
    return f'<details class="sheet"><summary>{_text(title)} ({len(rows)})</summary>\n<ul>\n{items}</ul></details>\n'


def _history(report: DriftReport, runs: Sequence[RunSummary]) -> str:
    shown_runs = [*(run for run in runs if run.at != report.at), RunSummary.of(report)][-MOST_RUNS:]
    most = max(sum(run.counts.get(name, 0) for name in ("drifted", "pending")) for run in shown_runs)
    rows = "".join(_run(run, most) for run in shown_runs)
    return _section(
        f"The last {counted(len(shown_runs), 'check')}" if len(shown_runs) > 1 else "This is the first check",
        f"""<div class="sheet history"><table>
<thead><tr><th scope="col">began (UTC)</th><th scope="col">result</th><th scope="col" class="number">drifted</th>
<th scope="col" class="number">pending</th><th scope="col" class="number">new</th>
<th scope="col" class="bar wide">drifted and pending</th></tr></thead>
<tbody>
{rows}</tbody></table></div>
""",
    )


def _run(run: RunSummary, most: int) -> str:
    figures = "".join(f'<td class="number">{run.counts.get(name, 0) or "·"}</td>' for name in ("drifted", "pending", "new"))
    bars = "".join(
        f'<i class="{name}" style="width:{100 * number / most:.1f}%"></i>'
        for name in ("drifted", "pending")
        if (number := run.counts.get(name, 0))
    )
    return (
        f'<tr><th scope="row">{run.at:%m-%d %H:%M}</th><td>{badge(run.result)}</td>{figures}'
        f'<td class="bar wide"><span aria-hidden="true">{bars}</span></td></tr>\n'
    )
