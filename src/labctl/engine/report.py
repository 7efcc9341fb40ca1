"""The end of a run: what came of each stack."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from labctl.engine.events import Event
from labctl.engine.run import Run, StackRun

DONE, NOTHING, FAILED, INTERRUPTED, DECLINED = "done", "nothing to do", "failed", "interrupted", "declined"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. `result` is one of: done, nothing to do, failed, interrupted, declined."""

    result: str
    stacks: tuple[dict[str, Any], ...]
    seconds: float
    changes: tuple[str, ...] = field(default=())

    def as_event(self) -> Event:
        """The last line of `--json`."""
        return Event(
            "report",
            fields={
                "result": self.result,
                "stacks": list(self.stacks),
                "steps": list(self.changes),
                "seconds": round(self.seconds, 3),
            },
        )


def stack_entry(stack: StackRun) -> dict[str, Any]:
    """A stack's entry in the report."""
    counts = stack.plan.summary.counts() if stack.plan and stack.plan.summary else {}
    return {"name": stack.name, "layer": stack.layer, "result": stack.result, **counts, "seconds": round(stack.seconds, 3)}


def make_report(run: Run, result: str, stacks: Iterable[StackRun], changes: Iterable[str] = ()) -> Report:
    """The report, told to view and journal."""
    report = Report(result, tuple(stack_entry(s) for s in stacks), time.monotonic() - run.started, tuple(changes))
    run.emit(report.as_event())
    return report
