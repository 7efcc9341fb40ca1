"""The graph of stacks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.errors import UserError
from labctl.model.graph import make_graph


@st.composite
def needs(draw: st.DrawFn) -> dict[str, set[str]]:
    """Any graph without a circle, its stacks in any order."""
    names = draw(st.permutations([f"s{i}" for i in range(draw(st.integers(0, 9)))]))
    return {name: draw(st.sets(st.sampled_from(names[:i]))) if i else set() for i, name in enumerate(names)}


@given(needs())
def test_every_stack_comes_after_all_that_it_needs(given_needs: dict[str, set[str]]) -> None:
    order = make_graph(given_needs).order
    assert sorted(order) == sorted(given_needs)
    for name, ups in given_needs.items():
        assert all(order.index(up) < order.index(name) for up in ups)


@given(needs())
def test_the_order_does_not_depend_on_how_the_graph_was_written(given_needs: dict[str, set[str]]) -> None:
    assert make_graph(dict(reversed(given_needs.items()))).order == make_graph(given_needs).order


@given(needs())
def test_ranks_are_as_early_as_they_can_be(given_needs: dict[str, set[str]]) -> None:
    ranks = make_graph(given_needs).ranks()
    assert sorted(name for rank in ranks for name in rank) == sorted(given_needs)
    for number, rank in enumerate(ranks):
        earlier = {name for before in ranks[:number] for name in before}
        for name in rank:
            assert given_needs[name] <= earlier
            assert number == 0 or given_needs[name] & set(ranks[number - 1])


@given(needs(), st.data())
def test_upstream_and_downstream_are_closed_and_mirror_each_other(given_needs: dict[str, set[str]], data: st.DataObject) -> None:
    graph = make_graph(given_needs)
    if not given_needs:
        return
    a, b = (data.draw(st.sampled_from(sorted(given_needs))) for _ in range(2))
    assert (a in graph.upstream([b])) == (b in graph.downstream([a]))
    assert all(graph.needs[name] <= graph.upstream([b]) for name in graph.upstream([b]))
    assert a in graph.upstream([a])


def test_a_circle_is_named_edge_by_edge() -> None:
    with pytest.raises(UserError, match="'a' needs 'b', 'b' needs 'c', 'c' needs 'a'") as caught:
        make_graph({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"], "e": []}, "manifest.json")
    assert caught.value.where == "manifest.json"
    with pytest.raises(UserError, match="'a' needs 'a'"):
        make_graph({"a": ["a"]})


def test_an_unknown_stack_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="stack 'platform' needs 'foundatoin'") as caught:
        make_graph({"foundation": [], "platform": ["foundatoin"]})
    assert "Did you mean 'foundation'?" in caught.value.hint


def test_names_and_globs() -> None:
    graph = make_graph({"apps-web": ["base"], "apps-ml": ["base"], "base": []})
    assert graph.matching(["apps-*"]) == {"apps-web", "apps-ml"}
    assert graph.in_order({"apps-web", "base"}) == ("base", "apps-web")
    with pytest.raises(UserError, match="no stack is named 'bas'") as caught:
        graph.matching(["bas"])
    assert "Did you mean 'base'?" in caught.value.hint
