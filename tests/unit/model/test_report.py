"""What a run came to, and what determined how long it took."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.report import (
    RUN_RESULTS,
    STACK_RESULTS,
    PathStep,
    RunReport,
    StackResult,
    as_document,
    critical_path,
    from_document,
)

SECONDS = st.integers(0, 10_000_000).map(lambda ms: ms / 1000)


@st.composite
def stack_results(draw: st.DrawFn, text: st.SearchStrategy[str]) -> tuple[StackResult, ...]:
    """Stacks of a graph without a circle, with times that need not fit it."""
    names = [f"s{i}" for i in range(draw(st.integers(0, 6)))]
    return tuple(
        StackResult(
            name=name,
            layer=draw(text),
            depends_on=tuple(sorted(draw(st.sets(st.sampled_from(names[:i]))))) if i else (),
            result=draw(st.sampled_from(STACK_RESULTS)),
            reason=draw(text),
            blame=draw(text),
            counts=draw(st.dictionaries(text, st.integers(0, 99), max_size=2)),
            began_s=draw(st.none() | SECONDS),
            ended_s=draw(st.none() | SECONDS),
            phases=draw(st.dictionaries(text, SECONDS, max_size=2)),
        )
        for i, name in enumerate(names)
    )


def run_reports(text: st.SearchStrategy[str]) -> st.SearchStrategy[RunReport]:
    return st.builds(
        RunReport,
        id=text,
        command=st.sampled_from(["up", "down", "plan"]) | text,
        lab=text,
        result=st.sampled_from(RUN_RESULTS),
        began=text,
        seconds=SECONDS,
        stacks=stack_results(text),
        steps=st.lists(text, max_size=2).map(tuple),
        error=text,
        hint=text,
    )


@given(run_reports(st.text(max_size=9)))
def test_a_document_gives_back_the_report(report: RunReport) -> None:
    assert from_document(json.loads(json.dumps(as_document(report)))) == report


@given(run_reports(st.text(max_size=9)))
def test_the_critical_path_is_a_chain_in_the_graph_that_ends_last(report: RunReport) -> None:
    stacks = {stack.name: stack for stack in report.stacks}
    path = [stacks[step.name] for step in critical_path(report)]
    timed = [stack for stack in report.stacks if stack.seconds is not None]
    assert bool(path) == bool(timed)
    for first, then in pairwise(path):
        assert then.name in first.depends_on if report.command == "down" else first.name in then.depends_on
    if path:
        assert path[-1].ended_s == max(stack.ended_s or 0.0 for stack in timed)
        needed = {name for name in path[0].depends_on if stacks[name] in timed}
        assert report.command == "down" or not needed


def scheduled(needs: dict[str, list[str]], took_s: dict[str, int], command: str = "up") -> RunReport:
    """A run in which every stack begins when all that it waits for have ended, 3 s after the run's start at the earliest."""
    ended: dict[str, float] = {}
    began: dict[str, float] = {}
    waits = needs
    if command == "down":
        waits = {name: [other for other in needs if name in needs[other]] for name in reversed(needs)}
    for name, before in waits.items():
        began[name] = max((ended[other] for other in before), default=3.0)
        ended[name] = began[name] + took_s[name]
    stacks = tuple(
        StackResult(name, "apps", tuple(needs[name]), "applied", began_s=began[name], ended_s=ended[name]) for name in needs
    )
    return RunReport("r", command, "lab", "done", "", max(ended.values()), stacks)


@given(st.data(), st.sampled_from(["up", "down"]))
def test_the_critical_path_explains_the_whole_time(data: st.DataObject, command: str) -> None:
    names = [f"s{i}" for i in range(data.draw(st.integers(1, 7)))]
    needs = {name: data.draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else [] for i, name in enumerate(names)}
    report = scheduled(needs, {name: data.draw(st.integers(1, 50)) for name in names}, command)
    path = critical_path(report)
    assert path[0].waited_s == 3.0
    assert all(step.waited_s == 0.0 for step in path[1:])
    assert sum(step.seconds + step.waited_s for step in path) == report.seconds


def test_waiting_is_what_lies_between_a_stack_and_the_one_before_it() -> None:
    stacks = (
        StackResult("base", "base", (), "applied", began_s=2.0, ended_s=10.0),
        StackResult("quick", "apps", ("base",), "applied", began_s=10.0, ended_s=11.0),
        StackResult("slow", "apps", ("base",), "failed", began_s=14.5, ended_s=20.0),
        StackResult("never", "apps", ("slow",), "blocked", blame="slow"),
    )
    report = RunReport("r", "up", "lab", "failed", "", 20.0, stacks)
    assert critical_path(report) == (PathStep("base", 8.0, 2.0), PathStep("slow", 5.5, 4.5))
    assert report.changed == ("base", "quick")


def test_a_circle_in_a_foreign_document_does_not_go_on_for_ever() -> None:
    stacks = tuple(StackResult(a, "l", (b,), "applied", began_s=0.0, ended_s=1.0) for a, b in ("ab", "ba"))
    assert len(critical_path(RunReport("r", "up", "lab", "done", "", 1.0, stacks))) == 2


def test_a_document_of_a_later_labctl_may_have_more_fields() -> None:
    report = RunReport("r", "up", "lab", "done", "", 1.0, (StackResult("a", "l", (), "applied"),))
    document: dict[str, Any] = as_document(report) | {"host": "pve"}
    document["stacks"][0] |= {"cost": 3}
    assert from_document(document) == report


@pytest.mark.parametrize(
    "damage",
    [{"schema": 2}, {"stacks": 3}, {"stacks": [{"name": "a"}]}, {"stacks": [[]]}, {"seconds": "long"}, {"seconds": None}],
)
def test_what_is_no_report_is_refused(damage: dict[str, Any]) -> None:
    document = as_document(RunReport("r", "up", "lab", "done", "", 1.0, ()))
    with pytest.raises(ValueError, match=r"schema|no report|could not convert"):
        from_document(document | damage)
    with pytest.raises(ValueError, match="no report"):
        from_document({})
