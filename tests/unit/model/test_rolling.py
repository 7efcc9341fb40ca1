"""The order in which services are replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.compose import ComposeService, ComposeState
from labctl.model.rolling import Ties, changed, held_ports, in_the_way, replacement_order

SERVICE = ComposeService("img:1", "sha256:1", "", "running", "healthy", "c1")
NAMES = ("a", "b", "c", "d")


def wants(port: str) -> Ties:
    return Ties(ports=frozenset({port}))


def test_what_is_not_as_wanted_is_changed_and_what_the_file_lost_is_not() -> None:
    wanted = ComposeState(dict.fromkeys("abcde", SERVICE), ("net",))
    found = {
        "a": SERVICE,
        "b": replace(SERVICE, image_id="sha256:2"),
        "c": replace(SERVICE, health="starting"),
        "d": replace(SERVICE, count=2),
        "old": SERVICE,
    }
    assert changed(wanted, ComposeState(found)) == {"b", "c", "d", "e"}


@pytest.mark.parametrize(
    ("services", "ties", "held", "order"),
    [
        ("cab", {}, {}, "bac"),
        ("abz", {}, {}, "baz"),
        ("abc", {"b": Ties(after=frozenset("c"))}, {}, "acb"),
        ("ab", {"b": Ties(after=frozenset("cd"))}, {}, "ba"),
        # All ports go up by one: the last one makes room.
        (
            "abc",
            {"b": wants("2"), "a": Ties(ports=frozenset({"3"}))},
            {"b": {"1"}, "a": {"2"}, "c": {"3"}},
            "cab",
        ),
        ("ab", {"b": wants("1")}, {"b": {"1"}}, "ba"),
        ("ab", {"b": wants("1")}, {"c": {"1"}}, "ba"),
        # In a circle, the preferred order counts.
        ("ab", {"b": wants("2"), "a": wants("1")}, {"b": {"1"}, "a": {"2"}}, "ba"),
        ("", {}, {}, ""),
    ],
    ids=[
        "preferred",
        "unknown last",
        "after what it depends on",
        "unless that stays",
        "ports",
        "its own port",
        "a port of none of them",
        "circle",
        "nothing",
    ],
)
def test_the_order(services: str, ties: dict[str, Ties], held: dict[str, set[str]], order: str) -> None:
    assert replacement_order("bacd", list(services), ties, held) == tuple(order)


@given(
    st.lists(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(NAMES)),
    st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.sampled_from(NAMES))),
)
def test_each_comes_once_and_nothing_before_what_it_needs_where_there_is_no_circle(
    preferred: list[str], services: set[str], after: dict[str, frozenset[str]]
) -> None:
    # Only what comes later in the alphabet is needed: no circles.
    ties = {name: Ties(after=frozenset(one for one in needs if one > name)) for name, needs in after.items()}
    order = replacement_order(preferred, services, ties, {})
    assert sorted(order) == sorted(services)
    for index, name in enumerate(order):
        assert not ties.get(name, Ties()).after & set(order[index:])


def test_what_the_file_lost_is_in_the_way_where_it_has_the_port() -> None:
    ties = {"a": wants("8000/tcp")}
    held = held_ports([("old", ["8000/tcp"]), ("old", ["9000/tcp"]), ("other", [])])
    assert held == {"old": {"8000/tcp", "9000/tcp"}, "other": frozenset()}
    assert in_the_way("a", ["other", "old"], ties, held)
    assert not in_the_way("a", ["other"], ties, held)
    assert not in_the_way("b", ["old"], ties, held)
