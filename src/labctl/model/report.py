"""What a run came to, stack by stack, and what determined how long it took. Pure.

The document (`as_document`) is `report.json` in the run's folder and what `labctl runs ID --json` prints. Its fields are those of
the two classes, with `"schema": 1`, each stack's `seconds` and the `critical_path`; more may come, and a reader skips what it
does not know. Times are in seconds, to the millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
KEEP_RUNS, MOST_RUNS = 50, 1000
"""How many runs are kept by default, and at the most."""

DONE, NOTHING, FAILED, INTERRUPTED, DECLINED = "done", "nothing to do", "failed", "interrupted", "declined"
RUN_RESULTS = (DONE, NOTHING, FAILED, INTERRUPTED, DECLINED)
CUT_OFF, RUNNING = "cut off", "running"
"""Of a run whose journal has no end: it was killed, or goes on."""

APPLIED, NO_CHANGES, DESTROYED, BLOCKED, NOT_STARTED = "applied", "no changes", "destroyed", "blocked", "not started"
STACK_RESULTS = (APPLIED, NO_CHANGES, DESTROYED, FAILED, BLOCKED, INTERRUPTED, NOT_STARTED)
CHANGED = (APPLIED, DESTROYED)

_DOWNWARDS = ("down", "destroy")
"""Commands in which a stack waits for those that depend on it, not for those that it depends on."""


@dataclass(frozen=True, slots=True)
class StackResult:
    """What came of one stack.

    Attributes:
        name: Its name.
        layer: Its layer.
        depends_on: The stacks that it needs.
        result: One of `STACK_RESULTS`; `running` in a run that goes on.
        reason: Why, where it is not self-evident; may have several lines.
        blame: The stack whose failure blocks this one.
        counts: Resources by what is done to them: `add`, `change`, `replace`, `destroy`.
        began_s: When work on it began after the picture was confirmed, in seconds from the run's start; None: never.
        ended_s: When that ended.
        phases: What the time from begin to end went into, seconds by name: `plan`, `apply`, `steps`, `wait`.
    """

    name: str
    layer: str
    depends_on: tuple[str, ...]
    result: str
    reason: str = ""
    blame: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    began_s: float | None = None
    ended_s: float | None = None
    phases: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """From begin to end; None where it never began or did not end."""
        if self.began_s is None or self.ended_s is None:
            return None
        return max(0.0, self.ended_s - self.began_s)


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run came to.

    Attributes:
        id: The run's id.
        command: `up`, `plan`, `down`.
        lab: The lab's name.
        result: One of `RUN_RESULTS`; `cut off` or `running` where the run has no end.
        began: When, ISO 8601 in UTC.
        seconds: How long it took, without the time at a question.
        stacks: Its stacks in order.
        steps: What the steps changed, a sentence each.
        error: What stopped it.
        hint: What to do about that.
    """

    id: str
    command: str
    lab: str
    result: str
    began: str
    seconds: float
    stacks: tuple[StackResult, ...]
    steps: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""

    @property
    def changed(self) -> tuple[str, ...]:
        """The stacks that were applied or destroyed."""
        return tuple(stack.name for stack in self.stacks if stack.result in CHANGED)


@dataclass(frozen=True, slots=True)
class PathStep:
    """One stack of the critical path.

    Attributes:
        name: The stack.
        seconds: How long it took.
        waited_s: From the end of the one before it, the run's start for the first, to its own beginning.
    """

    name: str
    seconds: float
    waited_s: float


def critical_path(report: RunReport) -> tuple[PathStep, ...]:
    """The chain of stacks that determined how long the run took, in the order in which they ran.

    It ends with the stack that ended last, and goes back over the stack that ended last among those that each had to wait for. A
    stack without times is not in it.
    """
    timed = {stack.name: stack for stack in report.stacks if stack.seconds is not None}
    if not timed:
        return ()
    waits_for = _waits_for(report)
    chain = [_last(timed, timed)]
    while earlier := (waits_for[chain[-1].name] & timed.keys()) - {stack.name for stack in chain}:
        chain.append(_last(timed, earlier))
    steps = []
    free_s = 0.0
    for stack in reversed(chain):
        steps.append(PathStep(stack.name, stack.seconds or 0.0, max(0.0, (stack.began_s or 0.0) - free_s)))
        free_s = max(free_s, stack.ended_s or 0.0)
    return tuple(steps)


def _last(timed: Mapping[str, StackResult], names: Any) -> StackResult:
    return max((timed[name] for name in names), key=lambda stack: (stack.ended_s, stack.name))


def _waits_for(report: RunReport) -> dict[str, set[str]]:
    """Each stack with those that had to end before it could begin."""
    found: dict[str, set[str]] = {stack.name: set() for stack in report.stacks}
    for stack in report.stacks:
        for other in stack.depends_on:
            if report.command in _DOWNWARDS:
                found.setdefault(other, set()).add(stack.name)
            else:
                found[stack.name].add(other)
    return found


def as_document(report: RunReport) -> dict[str, Any]:
    """The report for programs, as JSON has it."""
    return {
        "schema": SCHEMA,
        "id": report.id,
        "command": report.command,
        "lab": report.lab,
        "result": report.result,
        "began": report.began,
        "seconds": round(report.seconds, 3),
        "stacks": [_stack_document(stack) for stack in report.stacks],
        "steps": list(report.steps),
        "error": report.error,
        "hint": report.hint,
        "critical_path": [
            {"name": step.name, "seconds": round(step.seconds, 3), "waited_s": round(step.waited_s, 3)}
            for step in critical_path(report)
        ],
    }


def _stack_document(stack: StackResult) -> dict[str, Any]:
    return {
        "name": stack.name,
        "layer": stack.layer,
        "depends_on": list(stack.depends_on),
        "result": stack.result,
        "reason": stack.reason,
        "blame": stack.blame,
        "counts": dict(stack.counts),
        "began_s": _rounded(stack.began_s),
        "ended_s": _rounded(stack.ended_s),
        "seconds": _rounded(stack.seconds),
        "phases": {name: round(seconds, 3) for name, seconds in stack.phases.items()},
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def from_document(document: Mapping[str, Any]) -> RunReport:
    """The report of a document; fields that it does not know are left out.

    Raises:
        ValueError: The document is of another schema, or is no report.
    """
    try:
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, this labctl knows {SCHEMA}")
        return RunReport(
            id=str(document["id"]),
            command=str(document["command"]),
            lab=str(document["lab"]),
            result=str(document["result"]),
            began=str(document["began"]),
            seconds=float(document["seconds"]),
            stacks=tuple(_stack(entry) for entry in document["stacks"]),
            steps=tuple(str(step) for step in document.get("steps", ())),
            error=str(document.get("error", "")),
            hint=str(document.get("hint", "")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is no report of a run: {type(error).__name__}: {error}") from error


def _stack(entry: Mapping[str, Any]) -> StackResult:
    return StackResult(
        name=str(entry["name"]),
        layer=str(entry["layer"]),
        depends_on=tuple(str(name) for name in entry.get("depends_on", ())),
        result=str(entry["result"]),
        reason=str(entry.get("reason", "")),
        blame=str(entry.get("blame", "")),
        counts={str(name): int(number) for name, number in entry.get("counts", {}).items()},
        began_s=_seconds(entry.get("began_s")),
        ended_s=_seconds(entry.get("ended_s")),
        phases={str(name): float(seconds) for name, seconds in entry.get("phases", {}).items()},
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
