"""The map of the lab on the page: a row a layer, a box a stack, guest or service, each with its verdict in word and colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from labctl.model.drift.finding import Verdict
from labctl.model.drift.formats.words import counted
from labctl.model.drift.report import DriftReport, Entry
from labctl.model.drift.summary import ACCEPTED, DRIFTED, PENDING, verdict_of
from labctl.model.legible import legible

_SIGNS = {
    "clean": "✓",
    "drifted": "≠",
    "drift": "≠",
    "pending": "…",
    "not deployed": "○",
    "locked": "◆",
    "error": "✕",
    "accepted": "~",
}


@dataclass(frozen=True, slots=True)
class Spot:
    """Something of the lab that is on the map whether or not anything is found of it.

    Attributes:
        name: As findings name it in `guest`, or the name of a service.
        layer: The row.
        what: `guest` or `service`.
        stack: Whose verdict it takes where nothing is known of itself; "" for none.
    """

    name: str
    layer: str
    what: str = "guest"
    stack: str = ""


def badge(verdict: str) -> str:
    """The verdict as a sign, a word and a colour."""
    return f'<span class="badge {_class(verdict)}"><span aria-hidden="true">{_SIGNS[verdict]}</span>{escape(verdict)}</span>'


def as_map(report: DriftReport, spots: Sequence[Spot] = ()) -> str:
    """The map as HTML; the areas, which belong to no layer, are its last row."""
    rows = []
    layers = dict.fromkeys([*(stack.layer for stack in report.stacks), *(spot.layer for spot in spots)])
    all_spots = _with_found(report, spots, layers)
    for layer in dict.fromkeys([*layers, *(spot.layer for spot in all_spots)]):
        boxes = [
            _box(stack.name, "stack", str(report.stack_verdict(stack)), report.of_stack(stack.name))
            for stack in report.stacks
            if stack.layer == layer
        ]
        boxes += [_spot(spot, report) for spot in all_spots if spot.layer == layer]
        rows.append(_row(layer or "of no layer", boxes))
    if report.areas:
        rows.append(
            _row("the world", [_box(a.name, "area", str(report.area_verdict(a)), report.of_area(a.name)) for a in report.areas])
        )
    inner = "".join(rows)
    return f'<section>\n<h2>Map</h2>\n<div class="sheet map">\n{inner}</div>\n</section>\n' if inner else ""


def _with_found(report: DriftReport, spots: Sequence[Spot], layers: Iterable[str]) -> list[Spot]:
    """The spots, and the guests that only findings name."""
    known = {spot.name for spot in spots if spot.what == "guest"}
    found = {
        e.finding.guest: e.finding.layer for e in reversed(report.entries) if e.finding.guest and e.finding.guest not in known
    }
    return [*spots, *(Spot(name, layer if layer in layers else "") for name, layer in sorted(found.items()))]


def _spot(spot: Spot, report: DriftReport) -> str:
    entries = [e for e in report.entries if spot.what == "guest" and e.finding.guest == spot.name]
    stack = next((stack for stack in report.stacks if stack.name == spot.stack), None)
    found = {verdict_of(entry) for entry in entries}
    unknown = (Verdict.ERROR, Verdict.LOCKED, Verdict.NOT_DEPLOYED)
    if DRIFTED in found:
        verdict = DRIFTED
    elif stack and stack.verdict in unknown:
        verdict = str(stack.verdict)
    elif stack and spot.what == "service":
        verdict = str(report.stack_verdict(stack))
    else:
        verdict = next((one for one in (PENDING, ACCEPTED) if one in found), str(Verdict.CLEAN))
    return _box(spot.name, spot.what, verdict, entries)


def _box(name: str, what: str, verdict: str, entries: Sequence[Entry]) -> str:
    kept = sum(entry.accepted is None for entry in entries)
    figure = f" · {counted(kept, 'finding')}" if kept else ""
    return (
        f'<li class="box {_class(verdict)}"><b>{escape(legible(name))}</b>'
        f'<em><span aria-hidden="true">{_SIGNS[verdict]}</span> {escape(verdict)}</em><small>{what}{figure}</small></li>\n'
    )


def _row(name: str, boxes: Sequence[str]) -> str:
    return f'<div class="row"><h3>{escape(legible(name))}</h3><ul>\n{"".join(boxes)}</ul></div>\n'


def _class(verdict: str) -> str:
    return verdict.replace(" ", "-")
