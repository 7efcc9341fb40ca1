"""A check in a few figures: for the history of the last ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from labctl.model.drift.finding import Severity
from labctl.model.drift.report import DriftReport, Entry

DRIFTED, PENDING, ACCEPTED = "drifted", "pending", "accepted"
ENTRY_VERDICTS = (DRIFTED, PENDING, ACCEPTED)
"""How a finding stands: changed outside, never applied, or let be on purpose."""


def verdict_of(entry: Entry) -> str:
    """One of `ENTRY_VERDICTS`."""
    if entry.accepted:
        return ACCEPTED
    return DRIFTED if entry.counts else PENDING


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One check of the past.

    Attributes:
        at: When it began (UTC).
        result: `clean`, `pending`, `drift` or `error`.
        counts: Findings by verdict (`drifted`, `pending`, `accepted`), those that are new (`new`), and of the drifted ones by
            severity (`high`, `medium`, `low`).
    """

    at: datetime
    result: str
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, report: DriftReport) -> RunSummary:
        """What a report comes to."""
        counts = dict.fromkeys((*ENTRY_VERDICTS, "new", *(str(one) for one in Severity)), 0)
        for entry in report.entries:
            verdict = verdict_of(entry)
            counts[verdict] += 1
            counts["new"] += entry.new and verdict != ACCEPTED
            if verdict == DRIFTED:
                counts[str(entry.finding.severity)] += 1
        return cls(report.at, report.result, counts)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RunSummary:
        """What a stored JSON report comes to.

        Raises:
            ValueError: It is no such report, or of a version that this labctl cannot read.
        """
        try:
            counts = {str(name): int(number) for name, number in document["counts"].items()}
            return cls(datetime.fromisoformat(document["at"]), str(document["result"]), counts)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no drift report: {error!r}") from error
