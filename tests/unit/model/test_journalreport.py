"""The report of a run that left only its journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labctl.model.journalreport import report_of
from labctl.model.report import RunReport, StackResult

START = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
STACKS = [
    {"name": "foundation", "layer": "foundation", "depends_on": []},
    {"name": "platform", "layer": "platform", "depends_on": ["foundation"]},
]


def at(second: float, kind: str, stack: str = "", **fields: Any) -> dict[str, Any]:
    named = {"stack": stack} if stack else {}
    return {"time": (START + timedelta(seconds=second)).isoformat(timespec="milliseconds"), "type": kind, **named, **fields}


def begin(command: str = "up") -> list[dict[str, Any]]:
    return [
        at(0, "run", id="r", command=command, pid=7),
        at(1, "stacks", stacks=STACKS),
        at(1, "stack", "foundation", stage="planning"),
        at(2, "stack", "foundation", stage="not deployed", ended=True),
        at(2, "stack_plan", "foundation"),
        at(2, "stack_plan", "platform"),
    ]


def foundation() -> list[dict[str, Any]]:
    """After a question that stood for 10 s."""
    return [
        at(12, "stack", "foundation", stage="applying", creates=["vm.vault"]),
        at(15, "stack", "foundation", stage="steps"),
        at(20, "stack", "foundation", stage="applied", ended=True),
    ]


def of(*events: dict[str, Any], running: bool = False) -> RunReport:
    return report_of("r", "lab", events, running=running)


def entry(name: str, result: str, **counts: int) -> dict[str, Any]:
    return {"name": name, "layer": name, "result": result, "seconds": 1.0, **counts}


def test_a_run_that_ended_well_without_the_time_at_the_question() -> None:
    platform = [
        at(20, "stack", "platform", stage="init"),
        at(21, "stack", "platform", stage="planning"),
        at(22, "stack", "platform", stage="not deployed", ended=True),
        at(23, "stack", "platform", stage="applying"),
        at(24.5, "stack", "platform", stage="applied", ended=True),
    ]
    stacks = [entry("foundation", "applied", add=10, change=0), entry("platform", "applied", add=8, change=0)]
    end = at(24.5, "report", result="done", stacks=stacks, steps=["unsealed"], seconds=14.5)
    report = of(*begin(), *foundation(), *platform, end)
    assert report == RunReport(
        id="r",
        command="up",
        lab="lab",
        result="done",
        began="2026-01-31T08:15:00.000+00:00",
        seconds=14.5,
        stacks=(
            StackResult(
                name="foundation",
                layer="foundation",
                depends_on=(),
                result="applied",
                counts={"add": 10, "change": 0},
                began_s=2.0,
                ended_s=10.0,
                phases={"apply": 3.0, "steps": 5.0},
            ),
            StackResult(
                name="platform",
                layer="platform",
                depends_on=("foundation",),
                result="applied",
                counts={"add": 8, "change": 0},
                began_s=10.0,
                ended_s=14.5,
                phases={"plan": 2.0, "apply": 1.5},
            ),
        ),
        steps=("unsealed",),
    )


def test_a_failed_stack_has_the_reason_and_the_blocked_one_whom_to_blame() -> None:
    stacks = [entry("foundation", "failed", add=10), entry("platform", "blocked by foundation", add=8)]
    report = of(
        *begin(),
        at(12, "stack", "foundation", stage="applying"),
        at(15, "report", result="failed", stacks=stacks, steps=[], seconds=5.0),
        at(15, "error", text="no space", where="foundation", hint="Free some."),
    )
    assert (report.result, report.error, report.hint) == ("failed", "foundation: no space", "Free some.")
    first, then = report.stacks
    assert (first.result, first.reason, first.began_s, first.ended_s) == ("failed", "no space", 2.0, 5.0)
    assert (then.result, then.reason, then.blame, then.began_s) == ("blocked", "", "foundation", None)


def test_a_stack_whose_plan_was_refused_says_why_it_was_not_started() -> None:
    stacks = [entry("platform", "not started"), entry("foundation", "not started")]
    report = of(
        *begin("down"),
        at(3, "report", result="failed", stacks=stacks, seconds=3.0),
        at(3, "error", text="refused", where="platform"),
    )
    assert [stack.reason for stack in report.stacks] == ["refused", ""]


def test_a_stack_that_a_signal_stopped_did_not_fail() -> None:
    stacks = [entry("foundation", "failed"), entry("platform", "not started")]
    report = of(
        *begin(), at(3, "report", result="interrupted", stacks=stacks, seconds=3.0), at(3, "error", text="interrupted", hint="")
    )
    assert [(stack.result, stack.reason) for stack in report.stacks] == [("interrupted", "interrupted"), ("not started", "")]


def test_a_run_without_an_end_was_cut_off_or_goes_on() -> None:
    events = [*begin(), *foundation(), at(21, "stack", "platform", stage="applying"), at(25, "resource", "platform")]
    cut = of(*events)
    assert (cut.result, cut.seconds) == ("cut off", 25.0)
    assert [(s.result, s.reason, s.ended_s) for s in cut.stacks] == [
        ("applied", "", 20.0),
        ("interrupted", "the run was cut off", 25.0),
    ]
    live = of(*events, running=True)
    assert live.result == "running"
    assert [(s.result, s.reason, s.ended_s) for s in live.stacks] == [("applied", "", 20.0), ("running", "", None)]
    early = of(*begin())
    assert [(s.result, s.began_s) for s in early.stacks] == [("not started", None)] * 2
    assert of(begin()[0]).stacks == ()


def plan_run(*statuses: str) -> RunReport:
    stacks = [{"name": f"s{i}", "layer": "l", "status": status, "add": 1} for i, status in enumerate(statuses)]
    return of(*begin("plan"), at(3, "plan", stacks=stacks))


@pytest.mark.parametrize(
    ("statuses", "result"),
    [
        (("no changes", "no changes"), "nothing to do"),
        (("no changes", "changes"), "done"),
        (("error", "blocked"), "failed"),
    ],
)
def test_a_plan_has_an_end_though_it_has_no_report(statuses: tuple[str, ...], result: str) -> None:
    assert plan_run(*statuses).result == result


def test_a_planned_stack_was_not_started() -> None:
    found = plan_run("no changes", "not deployed", "blocked", "error").stacks
    assert [(stack.result, stack.reason) for stack in found] == [
        ("no changes", ""),
        ("not started", "planned: not deployed"),
        ("blocked", ""),
        ("failed", ""),
    ]
    assert all(stack.began_s is None for stack in found)


@pytest.mark.parametrize(("text", "result"), [("the token has no rights", "failed"), ("interrupted", "interrupted")])
def test_a_run_that_ended_before_it_had_stacks(text: str, result: str) -> None:
    report = of(at(0, "run", command="down"), at(0.5, "error", text=text))
    assert (report.result, report.error, report.stacks, report.seconds) == (result, text, (), 0.5)


def test_what_an_entry_says_of_itself_goes_before_what_the_events_say() -> None:
    stacks = [entry("foundation", "failed") | {"reason": "own", "depends_on": ["x"]}]
    report = of(*begin(), at(3, "report", result="failed", stacks=stacks, seconds=3.0), at(3, "error", text="other"))
    assert (report.stacks[0].reason, report.stacks[0].depends_on) == ("own", ("x",))


@pytest.mark.parametrize("events", [[], [{"type": "run"}], [{"time": "noon", "type": "run"}, {"time": "x", "type": "report"}]])
def test_what_is_no_journal_is_refused(events: list[dict[str, Any]]) -> None:
    with pytest.raises((ValueError, KeyError)):
        of(*events)
