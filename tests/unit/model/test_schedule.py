"""The schedule of stacks: whatever the graph and whatever the timing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.graph import Graph, make_graph
from labctl.model.schedule import Schedule


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = [f"s{i}" for i in range(draw(st.integers(0, 9)))]
    return make_graph({name: draw(st.sets(st.sampled_from(names[:i]))) if i else set() for i, name in enumerate(names)})


def play(schedule: Schedule, failing: set[str], timing: random.Random) -> tuple[list[str], list[str], int]:
    """Runs it with stacks that end in any order; returns starts, ends and the most that ran at once."""
    starts: list[str] = []
    ends: list[str] = []
    most = 0
    while True:
        for name in schedule.startable():
            schedule.begin(name)
            starts.append(name)
        most = max(most, len(schedule.running))
        if not schedule.running:
            return starts, ends, most
        name = timing.choice(schedule.running)
        ends.append(name)
        schedule.end(name, well=name not in failing)


@given(graphs(), st.integers(1, 4), st.randoms(use_true_random=False), st.booleans(), st.data())
def test_nothing_starts_before_all_that_it_needs_ended_well(
    graph: Graph, limit: int, timing: random.Random, downwards: bool, data: st.DataObject
) -> None:
    failing = data.draw(st.sets(st.sampled_from(graph.order))) if graph.order else set()
    schedule = Schedule(graph, graph.order, limit=limit, downwards=downwards)
    starts, ends, most = play(schedule, failing, timing)
    reach = graph.downstream if downwards else graph.upstream
    assert most <= limit
    assert len(set(starts)) == len(starts)
    well = {name for name in ends if name not in failing}
    for name in starts:
        before = reach([name]) - {name}
        assert before <= well
        # Each of them had ended before this one ended, and this one ended after it had started.
        assert all(ends.index(other) < ends.index(name) for other in before)
    # What did not start is blocked, and the one to blame failed and is upstream.
    assert set(schedule.blocked) == set(graph.order) - set(starts)
    for name, blame in schedule.blocked.items():
        assert blame in failing
        assert blame in reach([name])


@given(graphs(), st.integers(1, 4), st.data(), st.lists(st.randoms(use_true_random=False), min_size=2, max_size=3))
def test_what_runs_does_not_depend_on_timing(graph: Graph, limit: int, data: st.DataObject, timings: list[random.Random]) -> None:
    failing = data.draw(st.sets(st.sampled_from(graph.order))) if graph.order else set()
    seen = set()
    for timing in timings:
        schedule = Schedule(graph, graph.order, limit=limit)
        starts, _ends, _most = play(schedule, failing, timing)
        seen.add((frozenset(starts), frozenset(schedule.blocked)))
    assert len(seen) == 1


@given(graphs(), st.data())
def test_a_selection_keeps_the_order_through_stacks_that_are_left_out(graph: Graph, data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from(graph.order))) if graph.order else set()
    starts, _ends, _most = play(Schedule(graph, names, limit=1), set(), random.Random(0))
    assert set(starts) == names
    for index, name in enumerate(starts):
        assert not (graph.upstream([name]) - {name}) & set(starts[index:])


CHAIN = make_graph({"a": [], "b": ["a"], "c": ["b"], "d": [], "e": []})


def test_as_many_as_may_run_at_once_start_at_once() -> None:
    assert Schedule(CHAIN, CHAIN.order, limit=2).startable() == ("a", "d")
    assert Schedule(CHAIN, CHAIN.order, limit=9).startable() == ("a", "d", "e")
    assert Schedule(CHAIN, CHAIN.order, limit=9, downwards=True).startable() == ("c", "e", "d")


def test_fail_fast_starts_nothing_new() -> None:
    schedule = Schedule(CHAIN, CHAIN.order, limit=1, fail_fast=True)
    starts, _ends, _most = play(schedule, {"a"}, random.Random(0))
    assert starts == ["a"]
    assert schedule.blocked == {"b": "a", "c": "a"}
    assert schedule.waiting == ("d", "e")


def test_a_stack_that_may_not_start_is_refused() -> None:
    schedule = Schedule(CHAIN, CHAIN.order, limit=2)
    with pytest.raises(ValueError, match="b may not start now"):
        schedule.begin("b")
    with pytest.raises(ValueError, match="not in list"):
        schedule.end("a", well=True)
