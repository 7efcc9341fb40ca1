"""The scheduler runs what the schedule allows, several at once where it can."""

from __future__ import annotations

import threading
import time

import pytest

from labctl.engine.scheduler import default_parallelism, run_schedule
from labctl.model.graph import make_graph
from labctl.model.schedule import Schedule

FORK = make_graph({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})


def test_independent_stacks_run_at_the_same_time_and_one_alone_on_the_calling_thread() -> None:
    meeting = threading.Barrier(2)
    threads: dict[str, threading.Thread] = {}

    def work(name: str) -> bool:
        threads[name] = threading.current_thread()
        if name in ("b", "c"):
            meeting.wait(30)
        return True

    run_schedule(Schedule(FORK, FORK.order, limit=4), work, lambda: False)
    assert sorted(threads) == ["a", "b", "c", "d"]
    assert threads["a"] is threads["d"] is threading.current_thread()
    assert threading.current_thread() not in (threads["b"], threads["c"])


def test_a_failure_blocks_what_follows_and_nothing_else() -> None:
    done: list[str] = []

    def work(name: str) -> bool:
        done.append(name)
        return name != "b"

    schedule = Schedule(FORK, FORK.order, limit=4)
    run_schedule(schedule, work, lambda: False)
    assert sorted(done) == ["a", "b", "c"]
    assert schedule.blocked == {"d": "b"}


def test_nothing_starts_once_it_is_stopped() -> None:
    done: list[str] = []

    def work(name: str) -> bool:
        done.append(name)
        return True

    schedule = Schedule(FORK, FORK.order, limit=4)
    run_schedule(schedule, work, lambda: bool(done))
    assert done == ["a"]
    assert schedule.waiting == ("b", "c", "d")


def test_an_error_is_raised_when_all_that_ran_has_ended() -> None:
    done: list[str] = []

    def work(name: str) -> bool:
        if name == "b":
            raise RuntimeError("b broke")
        if name == "c":
            time.sleep(0.2)
        done.append(name)
        return True

    with pytest.raises(RuntimeError, match="b broke"):
        run_schedule(Schedule(FORK, FORK.order, limit=4), work, lambda: False)
    assert done == ["a", "c"]


def test_the_default_is_at_least_two() -> None:
    assert default_parallelism() >= 2
