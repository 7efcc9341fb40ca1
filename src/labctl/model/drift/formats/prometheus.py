"""The report as metrics, for the textfile collector of node_exporter.

Format: Prometheus' text exposition format 0.0.4. Every verdict, severity and result has its sample, the zeros too: an alert on a
series that comes and goes would be silent when it should ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from labctl.model.drift.finding import Severity, Verdict
from labctl.model.drift.report import DriftReport
from labctl.model.drift.summary import ENTRY_VERDICTS, RunSummary, verdict_of

RESULTS = ("clean", "pending", "drift", "error")

Sample = tuple[Mapping[str, str], float]


def as_prometheus(report: DriftReport, last_success: datetime | None = None) -> str:
    """The metrics as text.

    Args:
        report: The check.
        last_success: When a check that knew everything, whatever it found, was made last; None for never, which leaves out the
            metric. This check counts by itself where it is such a one.
    """
    lab = {"lab": report.lab}
    success = report.at if report.result != "error" else last_success
    summary = RunSummary.of(report)
    families: list[tuple[str, str, Iterable[Sample]]] = [
        ("last_run_timestamp_seconds", "When the last check began.", [(lab, report.at.timestamp())]),
        (
            "last_success_timestamp_seconds",
            "When a check last knew everything, whatever it found.",
            [(lab, success.timestamp())] if success else [],
        ),
        ("duration_seconds", "How long the last check took.", [(lab, round(report.seconds, 3))]),
        ("exit_code", "0 all as described, 2 something is not, 1 something is not known.", [(lab, report.exit_code)]),
        ("result", "1 for the result of the last check.", [(lab | {"result": r}, report.result == r) for r in RESULTS]),
        ("stacks", "Stacks by layer and verdict.", _stacks(report, lab)),
        ("area", "1 for the verdict of each area.", _areas(report, lab)),
        ("findings", "Findings by where they are, verdict and severity.", _findings(report, lab)),
        ("new_findings", "Findings that the check before did not have, without accepted ones.", [(lab, summary.counts["new"])]),
        ("gone_findings", "Findings of the check before that are no longer there.", [(lab, len(report.gone))]),
        ("unused_acceptances", "Entries of drift.yaml that match nothing.", [(lab, len(report.unused))]),
    ]
    return "".join(_family(f"labctl_drift_{name}", text, samples) for name, text, samples in families)


def _stacks(report: DriftReport, lab: Mapping[str, str]) -> list[Sample]:
    found = [(stack.layer, report.stack_verdict(stack)) for stack in report.stacks]
    layers = dict.fromkeys(layer for layer, _ in found)
    return [({**lab, "layer": layer, "verdict": v}, found.count((layer, v))) for layer in layers for v in Verdict]


def _areas(report: DriftReport, lab: Mapping[str, str]) -> list[Sample]:
    verdicts = (Verdict.CLEAN, Verdict.DRIFTED, Verdict.ERROR)
    return [({**lab, "area": a.name, "verdict": v}, report.area_verdict(a) is v) for a in report.areas for v in verdicts]


def _findings(report: DriftReport, lab: Mapping[str, str]) -> list[Sample]:
    places = [("terraform", layer) for layer in dict.fromkeys(stack.layer for stack in report.stacks)]
    places += [(area.name, "") for area in report.areas]
    found: dict[tuple[str, str, str, str], int] = {
        (area, layer, verdict, severity): 0
        for area, layer in places
        for verdict in ENTRY_VERDICTS
        for severity in (str(one) for one in Severity)
    }
    for entry in report.entries:
        area = entry.finding.area
        # What an area found may belong to a layer or to none: its series are those of the area.
        key = (area, entry.finding.layer if area == "terraform" else "", verdict_of(entry), str(entry.finding.severity))
        found[key] = found.get(key, 0) + 1
    names = ("area", "layer", "verdict", "severity")
    return [({**lab, **dict(zip(names, key, strict=True))}, number) for key, number in found.items()]


def _family(name: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"{name}{{{_labels(labels)}}} {_number(value)}" for labels, value in samples]
    return "\n".join([f"# HELP {name} {text}", f"# TYPE {name} gauge", *lines, ""]) if lines else ""


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    """A label's value: what may not stand in it is a backslash, a quote and a line's end."""
    whole = value.encode(errors="replace").decode()
    return whole.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
