"""A drift report as text, in the format that was asked for."""

from __future__ import annotations

import importlib
import json

from labctl.engine.drift.history import as_document
from labctl.model.drift import DriftReport


def rendered(report: DriftReport, form: str) -> str:
    """The report as text.

    Args:
        report: The report.
        form: `table`, `json`, `markdown`, `junit`, `prometheus` or `html`.
    """
    if form == "json":
        return json.dumps(as_document(report), indent=2, default=str) + "\n"
    if form == "table":
        return table(report)
    formats = importlib.import_module(f"labctl.model.drift.formats.{form}")
    return str(getattr(formats, f"as_{form}")(report))


def table(report: DriftReport) -> str:
    """The report for people, a line a finding."""
    lines = []
    for stack in report.stacks:
        lines.append(f"{stack.name}: {report.stack_verdict(stack)}{f' ({stack.problem})' if stack.problem else ''}")
        lines += [f"  {stack.hint}"] if stack.hint else []
        lines += [f"  {entry.finding.severity:<6} {entry.finding.text}" for entry in report.of_stack(stack.name)]
    for area in report.areas:
        lines.append(f"{area.name}: {report.area_verdict(area)}")
        lines += [f"  {text}" for text in area.problems]
        lines += [f"  {entry.finding.severity:<6} {entry.finding.text}" for entry in report.of_area(area.name)]
    lines += [f"gone since: {old.text}" for old in report.gone]
    lines += [f"drift.yaml: {entry.id} is about nothing" for entry in report.unused]
    lines += [f"warning: {text}" for text in report.warnings]
    return "\n".join([*lines, f"{report.result} ({report.seconds:.1f} s)"]) + "\n"
