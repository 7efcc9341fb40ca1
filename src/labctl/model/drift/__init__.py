"""What a nightly check finds: verdicts, findings, what is accepted on purpose, what is new since last time. Pure.

`finding` has the words, `stack` reads one out of a Terraform plan, `acceptance` is `drift.yaml`, `memory` counts the nights,
`report` is all of it together; `formats` writes it down for programs and people.
"""

from labctl.model.drift.finding import AreaDrift, Change, Finding, Kind, Severity, StackDrift, Verdict
from labctl.model.drift.report import DriftReport, Entry

__all__ = ["AreaDrift", "Change", "DriftReport", "Entry", "Finding", "Kind", "Severity", "StackDrift", "Verdict"]
