"""The end of a run: what came of each stack, told, and written into the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from labctl.engine.events import Event
from labctl.engine.interrupt import Interrupted
from labctl.engine.run import Run, StackRun
from labctl.model.errors import LabError
from labctl.model.report import CHANGED, FAILED, INTERRUPTED, RunReport, StackResult


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to.

    Attributes:
        result: One of `labctl.model.report.RUN_RESULTS`.
        stacks: An entry a stack, as in the last line of `--json`.
        seconds: How long it took, without the time at a question.
        changes: What the steps changed, a sentence each.
    """

    result: str
    stacks: tuple[dict[str, Any], ...]
    seconds: float
    changes: tuple[str, ...] = ()

    def as_event(self) -> Event:
        """The last line of `--json`."""
        fields = {
            "result": self.result,
            "stacks": list(self.stacks),
            "steps": list(self.changes),
            "seconds": round(self.seconds, 3),
        }
        return Event("report", fields=fields)


def conclude(
    run: Run, stacks: Sequence[StackRun], result: str = "", *, error: LabError | None = None, changes: Iterable[str] = ()
) -> Report:
    """The report of a run that ends, told to view and journal and written into the run's folder.

    Args:
        run: The run.
        stacks: The stacks that it was about.
        result: What it came to; from the error where there is one.
        error: What stopped it.
        changes: What the steps changed.
    """
    # Loaded when it is needed: the first Terraform starts without it.
    from labctl.engine.reports import write_reports

    if error is not None:
        result = INTERRUPTED if isinstance(error, Interrupted) or run.interrupts.count else FAILED
    report = Report(result, tuple(_entry(stack) for stack in stacks), run.clock(), tuple(changes))
    run.emit(report.as_event())
    # What stopped the run is what counts, not that there is no room left to write about it.
    with suppress(LabError) if error else nullcontext():
        write_reports(run.journal.folder, _document(run, stacks, report, error))
    return report


def _document(run: Run, stacks: Sequence[StackRun], report: Report, error: LabError | None) -> RunReport:
    return RunReport(
        id=run.journal.run_id,
        command=run.journal.command,
        lab=run.name,
        result=report.result,
        began=run.journal.began,
        seconds=report.seconds,
        stacks=tuple(_result(stack) for stack in stacks),
        steps=report.changes,
        error=str(error) if error else "",
        hint=error.hint if error else "",
    )


def _entry(stack: StackRun) -> dict[str, Any]:
    entry = {
        "name": stack.name,
        "layer": stack.layer,
        "result": stack.result,
        **_counts(stack),
        "seconds": round(stack.seconds, 3),
    }
    return entry | ({"blame": stack.blame} if stack.blame else {})


def _counts(stack: StackRun) -> dict[str, int]:
    if stack.unplanned:
        return dict(stack.unplanned)
    return stack.plan.summary.counts() if stack.plan and stack.plan.summary else {}


def _result(stack: StackRun) -> StackResult:
    counts = _counts(stack) if stack.result in CHANGED else {}
    return StackResult(
        name=stack.name,
        layer=stack.layer,
        depends_on=tuple(stack.stack.dependencies),
        result=stack.result,
        reason=str(stack.error) if stack.error else (stack.plan.reason if stack.plan else ""),
        blame=stack.blame,
        counts={name: number for name, number in counts.items() if number},
        began_s=stack.began_s,
        ended_s=stack.ended_s,
        phases={name: round(seconds, 3) for name, seconds in stack.phases.items()},
    )
