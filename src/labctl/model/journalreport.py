"""The report of a run that left only its journal: one that was cut off, one that goes on, or one of an earlier labctl. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labctl.model.report import (
    APPLIED,
    BLOCKED,
    CHANGED,
    CUT_OFF,
    DESTROYED,
    DONE,
    FAILED,
    INTERRUPTED,
    NO_CHANGES,
    NOT_STARTED,
    NOTHING,
    RUNNING,
    RunReport,
    StackResult,
)

_PHASES = {"init": "plan", "planning": "plan", "applying": "apply", "steps": "steps"}
_ENDS = {"applied": APPLIED, "up to date": NO_CHANGES, "destroyed": DESTROYED}
_COUNTS = ("add", "change", "replace", "destroy")
_BLOCKED_BY = "blocked by "
_PLANNED = {"no changes": NO_CHANGES, "blocked": BLOCKED, "error": FAILED}

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Journal:
    """A run's events, and what they say of the run as a whole.

    Attributes:
        events: Without those that have no time.
        asked_s: How long the question stood, which no time of a stack counts.
        running: Whether the run goes on.
    """

    events: tuple[Entry, ...]
    running: bool
    asked_s: float = 0.0

    def last(self, kind: str) -> Entry:
        """The last event of a type; empty where there is none."""
        return next((event for event in reversed(self.events) if event.get("type") == kind), {})

    def at_s(self, event: Entry) -> float:
        """Seconds from the run's start."""
        return (_time(event) - _time(self.events[0])).total_seconds()

    @property
    def end_s(self) -> float:
        """Of the last event."""
        return self.at_s(self.events[-1])

    def of_stack(self, name: str) -> list[tuple[int, Entry]]:
        """The stages of one stack, each with its place in the journal."""
        return [(i, e) for i, e in enumerate(self.events) if e.get("type") == "stack" and e.get("stack") == name]

    @property
    def picture(self) -> int:
        """Where the picture is: what comes after it is the work that it asked about."""
        return next((i for i, e in enumerate(self.events) if e.get("type") == "stack_plan"), len(self.events))


def _time(event: Entry) -> datetime:
    return datetime.fromisoformat(event["time"])


def report_of(run_id: str, lab: str, events: Sequence[Entry], *, running: bool = False) -> RunReport:
    """What the journal of a run says of it.

    Args:
        run_id: The run's id.
        lab: The lab's name.
        events: Its events, the first of them of type `run`.
        running: Whether the run goes on; one that does not and has no end was cut off.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: The events are not those of a run.
    """
    timed = tuple(event for event in events if "time" in event)
    if not timed:
        raise ValueError("the journal is empty")
    journal = _Journal(timed, running)
    report, error = journal.last("report"), journal.last("error")
    command = str(timed[0].get("command", "?"))
    seconds = float(report.get("seconds", journal.end_s))
    if report:
        journal = _Journal(timed, running, max(0.0, journal.at_s(report) - seconds))
    planned = journal.last("plan") if command in ("plan", "review") else {}
    result = _result(journal, planned)
    entries: Sequence[Entry] = report.get("stacks") or planned.get("stacks") or journal.last("stacks").get("stacks", ())
    return RunReport(
        id=run_id,
        command=command,
        lab=lab,
        result=result,
        began=str(timed[0]["time"]),
        seconds=seconds,
        stacks=tuple(_stack(journal, entry, result) for entry in entries),
        steps=tuple(str(step) for step in report.get("steps", ())),
        error=": ".join(str(error[part]) for part in ("where", "text") if error.get(part)),
        hint=str(error.get("hint", "")),
    )


def _result(journal: _Journal, planned: Entry) -> str:
    """What came of the run; `plan` and a run that failed before it had stacks leave no report."""
    report, error = journal.last("report"), journal.last("error")
    if report:
        return str(report["result"])
    if error:
        return INTERRUPTED if error.get("text") == INTERRUPTED else FAILED
    if planned:
        statuses = {entry["status"] for entry in planned["stacks"]}
        return FAILED if "error" in statuses else NOTHING if statuses <= {"no changes"} else DONE
    return RUNNING if journal.running else CUT_OFF


def _stack(journal: _Journal, entry: Entry, run_result: str) -> StackResult:
    name = str(entry["name"])
    described: Entry = next((e for e in journal.last("stacks").get("stacks", ()) if e["name"] == name), {})
    result, reason, blame = _outcome(journal, entry, run_result)
    began_s, ended_s = _span(journal, name) if result not in (BLOCKED, NOT_STARTED) else (None, None)
    return StackResult(
        name=name,
        layer=str(entry.get("layer", name)),
        depends_on=tuple(entry.get("depends_on", described.get("depends_on", ()))),
        result=result,
        reason=reason,
        blame=blame,
        counts={word: int(entry[word]) for word in _COUNTS if word in entry},
        began_s=began_s,
        ended_s=ended_s,
        phases=_phases(journal, name),
    )


def _outcome(journal: _Journal, entry: Entry, run_result: str) -> tuple[str, str, str]:
    """The stack's result, the reason and the stack to blame."""
    name, error = entry["name"], journal.last("error")
    reason, blame = str(entry.get("reason", "")), str(entry.get("blame", ""))
    if "status" in entry:
        result = _PLANNED.get(entry["status"], NOT_STARTED)
        return result, reason or (f"planned: {entry['status']}" if result == NOT_STARTED else ""), blame
    result = str(entry.get("result") or _by_stages(journal, name))
    if result.startswith(_BLOCKED_BY):
        return BLOCKED, reason, result.removeprefix(_BLOCKED_BY)
    if result == FAILED and run_result == INTERRUPTED:
        result = INTERRUPTED
    told = error.get("where") == name or result in (FAILED, INTERRUPTED)
    if not reason and told and result not in (*CHANGED, NO_CHANGES):
        reason = str(error.get("text", ""))
    if not reason and run_result == CUT_OFF and result == INTERRUPTED:
        reason = "the run was cut off"
    return result, reason, blame


def _by_stages(journal: _Journal, name: str) -> str:
    """What came of a stack in a run that has no end."""
    stages = [str(event.get("stage")) for place, event in journal.of_stack(name) if place > journal.picture]
    if not stages:
        return NOT_STARTED
    return _ENDS.get(stages[-1], RUNNING if journal.running else INTERRUPTED)


def _span(journal: _Journal, name: str) -> tuple[float | None, float | None]:
    """When the stack's turn began and ended, in seconds from the run's start without the time at the question."""
    stages = [event for place, event in journal.of_stack(name) if place > journal.picture]
    if not stages:
        return None, None
    began_s = max(0.0, journal.at_s(stages[0]) - journal.asked_s)
    if not stages[-1].get("ended") and journal.running:
        return began_s, None
    ended_s = journal.at_s(stages[-1]) if stages[-1].get("ended") else journal.end_s
    return began_s, max(began_s, ended_s - journal.asked_s)


def _phases(journal: _Journal, name: str) -> dict[str, float]:
    """What the stack's turn went into."""
    stages = [event for place, event in journal.of_stack(name) if place > journal.picture]
    ends_s = [*(journal.at_s(event) for event in stages[1:]), journal.end_s]
    found: dict[str, float] = {}
    for event, end_s in zip(stages, ends_s, strict=bool(stages)):
        phase = _PHASES.get(str(event.get("stage")))
        if phase:
            found[phase] = round(found.get(phase, 0.0) + end_s - journal.at_s(event), 3)
    return found
