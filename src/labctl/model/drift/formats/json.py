"""The report for programs: a document with a version, described by docs/drift.schema.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from labctl.model.drift.finding import AreaDrift, Kind, StackDrift
from labctl.model.drift.report import SCHEMA, DriftReport, Entry
from labctl.model.drift.summary import RunSummary, verdict_of

if TYPE_CHECKING:
    from labctl.model.drift.acceptance import Acceptance


def as_json(report: DriftReport) -> str:
    """The document as text, ASCII only. A value of a type that JSON lacks is written as its words."""
    return json.dumps(as_document(report), indent=2, default=str) + "\n"


def as_plain_document(report: DriftReport) -> dict[str, Any]:
    """As `as_document`, with nothing in it that JSON lacks."""
    found: dict[str, Any] = json.loads(as_json(report))
    return found


def as_document(report: DriftReport) -> dict[str, Any]:
    """The report as JSON has it; `RunSummary.from_document` reads its figures back."""
    summary = RunSummary.of(report)
    return {
        "schema": SCHEMA,
        "lab": report.lab,
        "target": report.target,
        "at": report.at.isoformat(),
        "seconds": round(report.seconds, 3),
        "result": report.result,
        "exit_code": report.exit_code,
        "counts": dict(summary.counts),
        "stacks": [_stack(report, stack) for stack in report.stacks],
        "areas": [_area(report, area) for area in report.areas],
        "inventory": {
            "unmanaged": [_thing(entry) for entry in report.entries if entry.finding.kind is Kind.UNMANAGED],
            "missing": [_thing(entry) for entry in report.entries if entry.finding.kind is Kind.MISSING],
        },
        "gone": [old.as_dict() for old in report.gone],
        "unused": [_acceptance(entry) for entry in report.unused],
        "warnings": list(report.warnings),
    }


def _stack(report: DriftReport, stack: StackDrift) -> dict[str, Any]:
    return {
        "name": stack.name,
        "layer": stack.layer,
        "verdict": str(report.stack_verdict(stack)),
        "seconds": round(stack.seconds, 3),
        "problem": stack.problem,
        "hint": stack.hint,
        "resources": [as_entry(entry) for entry in report.of_stack(stack.name)],
    }


def _area(report: DriftReport, area: AreaDrift) -> dict[str, Any]:
    return {
        "name": area.name,
        "verdict": str(report.area_verdict(area)),
        "seconds": round(area.seconds, 3),
        "looked": area.looked,
        "problems": list(area.problems),
        "notes": list(area.notes),
        "findings": [as_entry(entry) for entry in report.of_area(area.name)],
    }


def as_entry(entry: Entry) -> dict[str, Any]:
    """A finding with what is known about it."""
    finding = entry.finding
    return {
        "address": finding.id,
        "area": finding.area,
        "stack": finding.stack,
        "layer": finding.layer,
        "kind": str(finding.kind),
        "verdict": verdict_of(entry),
        "severity": str(finding.severity),
        "guest": finding.guest,
        "node": finding.node,
        "text": finding.text,
        "changes": [change.as_dict() for change in finding.changes],
        "fingerprint": finding.fingerprint,
        "first_seen": entry.first_seen.isoformat(),
        "seen": entry.seen,
        "new": entry.new,
        "accepted": _acceptance(entry.accepted) if entry.accepted else None,
        "expired": _acceptance(entry.expired) if entry.expired else None,
    }


def _acceptance(entry: Acceptance) -> dict[str, Any]:
    return {
        "id": entry.id,
        "attribute": entry.attribute,
        "reason": entry.reason,
        "owner": entry.owner,
        "until": entry.until.isoformat(),
    }


def _thing(entry: Entry) -> dict[str, Any]:
    """A guest or another thing that is there without a declaration, or declared and not there."""
    finding = entry.finding
    names = {"area": finding.area, "stack": finding.stack, "address": finding.id, "guest": finding.guest, "node": finding.node}
    return names | {"fingerprint": finding.fingerprint, "verdict": verdict_of(entry), "text": finding.text}
