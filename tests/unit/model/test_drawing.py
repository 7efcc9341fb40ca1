"""Drawings of stacks and what they need."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.drawing import STATUSES, Node, as_document, as_dot, as_mermaid, as_tree, one_line

# What the languages read, as often as all other characters together.
ANY_TEXT = st.text(st.sampled_from('"\\&<>;#$`[]{}|\n\t\a ab') | st.characters(), max_size=12)


def a_lab() -> tuple[Node, ...]:
    """As many stacks as a lab with services and apps has."""
    services = ("postgres", "kafka", "ollama")
    return (
        Node("foundation", "foundation", (), "deployed"),
        Node("platform", "platform", ("foundation",), "deployed"),
        *(Node(name, "services", ("platform",), "deployed" if name != "ollama" else "not deployed") for name in services),
        Node("mlflow", "services", ("platform", "postgres"), "unknown"),
        Node("mlserver", "apps", ("mlflow", "kafka"), "not deployed"),
        Node("open-webui", "apps", ("ollama", "postgres"), "not deployed"),
    )


@st.composite
def graphs(draw: st.DrawFn, text: st.SearchStrategy[str]) -> tuple[Node, ...]:
    """Any stacks, also with circles and with needs that are not among them."""
    names = draw(st.lists(text, unique=True, max_size=7))
    needs = st.lists(st.sampled_from([*names, "elsewhere"]), max_size=4).map(tuple)
    return tuple(Node(name, draw(text), draw(needs), draw(st.sampled_from(STATUSES))) for name in names)


def test_the_tree_of_a_lab(golden: Callable[[str, str], None]) -> None:
    golden("graph/tree.txt", "".join(f"{line}\n" for line in as_tree(a_lab(), 80)))


def test_a_lab_for_mermaid(golden: Callable[[str, str], None]) -> None:
    golden("graph/graph.mmd", as_mermaid(a_lab()))


def test_a_lab_for_graphviz(golden: Callable[[str, str], None]) -> None:
    golden("graph/graph.dot", as_dot(a_lab()))


@given(graphs(ANY_TEXT), st.integers(40, 120))
def test_every_stack_is_drawn_once_and_no_line_is_too_wide(nodes: tuple[Node, ...], columns: int) -> None:
    lines = as_tree(nodes, columns)
    drawn = [line for line in lines if line.status]
    assert sorted(line.status for line in drawn) == sorted(node.status for node in nodes)
    assert all(len(str(line)) <= columns for line in lines)
    assert all("\n" not in line.text for line in lines)
    names = {node.name for node in nodes}
    edges = sum(len(set(node.depends_on) & names) for node in nodes)
    tops = sum(1 for line in lines if not re.match(r"[│├└ …]", line.text))
    assert edges <= len(lines) <= edges + len(nodes)
    assert tops <= len(nodes)


def test_a_stack_is_referred_to_only_after_it_is_drawn() -> None:
    lines = [line.text for line in as_tree(a_lab(), 80)]
    for i, line in enumerate(lines):
        if line.endswith(" (above)"):
            name = line.removesuffix(" (above)").split()[-1]
            assert any(re.search(rf"(^|─ ){name} ", before) for before in lines[:i])


def chain(length: int) -> tuple[Node, ...]:
    return tuple(Node(f"stack-{i}", "l", (f"stack-{i - 1}",) if i else (), "deployed") for i in range(length))


@pytest.mark.parametrize(("length", "branch"), [(10, "└─ stack-0 "), (25, "└ stack-0 "), (45, "└stack-0 "), (2000, "…")])
def test_a_deep_tree_gets_narrow_branches_and_keeps_the_names(length: int, branch: str) -> None:
    lines = as_tree(chain(length), 80)
    assert len(lines) == length
    assert branch in str(lines[-1])
    assert "stack-0 " in str(lines[-1])
    assert max(len(str(line)) for line in lines) <= 80


def test_stacks_in_a_circle_are_all_drawn() -> None:
    lines = as_tree((Node("a", "", ("b",), "unknown"), Node("b", "", ("a",), "unknown")), 80)
    assert [str(line) for line in lines] == ["a     unknown", "└─ b  unknown", "   └─ a (above)"]


@given(graphs(ANY_TEXT))
def test_no_name_is_read_as_mermaid(nodes: tuple[Node, ...]) -> None:
    lines = as_mermaid(nodes).split("\n")
    labels = {}
    for line in lines:
        if found := re.fullmatch(r' +(s\d+)\["([^"]*)<br/>[a-z ]+"\]:::[a-z_]+', line):
            labels[found[1]] = re.sub(r"#(\d+);", lambda m: chr(int(m[1])), found[2]).replace("\u200b", "")
            assert not re.search(r"[\"#&<>`;$\\]", re.sub(r"#\d+;", "", found[2]))
        else:
            assert re.fullmatch(r'flowchart LR|  end|  s\d+ --> s\d+|  classDef .*|  subgraph l\d+\["[^"\\<>`]*"\]|', line), line
    assert labels == {f"s{i}": one_line(node.name) for i, node in enumerate(nodes)}


@given(graphs(ANY_TEXT))
def test_no_name_is_read_as_graphviz(nodes: tuple[Node, ...]) -> None:
    quoted = r'"((?:[^"\\]|\\.)*)"'
    labels = {}
    for line in as_dot(nodes).split("\n"):
        if found := re.fullmatch(rf' +(s\d+) \[label={quoted}, fillcolor="#\w+", color="#\w+"\]', line):
            name = re.sub(r"\\[nlr][a-z ]+$", "", found[2])
            labels[found[1]] = re.sub(r"\\(.)", r"\1", name).replace("&amp;", "&")
            assert not re.search(r"&(?!amp;)", found[2])
        else:
            fixed = rf"  s\d+ -> s\d+|  subgraph cluster_\d+ {{|    label={quoted}|(  )?}}|"
            assert re.match(r"digraph stacks {|  (rankdir|graph|node|edge)\b", line) or re.fullmatch(fixed, line), line
    assert labels == {f"s{i}": one_line(node.name) for i, node in enumerate(nodes)}


def test_an_arrow_goes_from_what_is_needed_to_what_needs_it() -> None:
    nodes = (Node("a", "", (), "deployed"), Node("b", "", ("a", "a", "elsewhere"), "unknown"))
    assert re.findall(r"s\d --> s\d", as_mermaid(nodes)) == ["s0 --> s1"]
    assert re.findall(r"s\d -> s\d", as_dot(nodes)) == ["s0 -> s1"]
    assert as_document(nodes)[1] == {"name": "b", "layer": "", "depends_on": ["a", "a", "elsewhere"], "status": "unknown"}
