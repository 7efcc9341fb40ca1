"""Draws stacks and what they need: as a tree for a terminal, for Mermaid and for Graphviz. Pure.

Any text may be a name: where it goes into a foreign language it is written so that nothing in it is read as that language.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

DEPLOYED, NOT_DEPLOYED, UNKNOWN = "deployed", "not deployed", "unknown"
STATUSES = (DEPLOYED, NOT_DEPLOYED, UNKNOWN)

_ABOVE = " (above)"
_LAYER_COLUMNS = 16
_BRANCHES = (("├─ ", "└─ ", "│  ", "   "), ("├ ", "└ ", "│ ", "  "), ("├", "└", "│", " "))
_FILLS = {DEPLOYED: ("#d7f0d7", "#2e7d32"), NOT_DEPLOYED: ("#f2f2f2", "#8a8a8a"), UNKNOWN: ("#fff0c7", "#b07a00")}


@dataclass(frozen=True, slots=True)
class Node:
    """A stack to draw.

    Attributes:
        name: Its name.
        layer: The layer it belongs to; "" where there are none.
        depends_on: The stacks that it needs; one that is not drawn is left out.
        status: One of `STATUSES`.
    """

    name: str
    layer: str
    depends_on: tuple[str, ...]
    status: str


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A line of the tree: `text` with its columns filled up, and the status to put after it, "" in a reference."""

    text: str
    status: str

    def __str__(self) -> str:
        return f"{self.text}{self.status}".rstrip()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a stack stands in the tree; `last` says of each level whether its branch ends there."""

    node: Node
    last: tuple[bool, ...]
    again: bool

    def text(self, style: int) -> str:
        more, end, through, space = _BRANCHES[style]
        stem = "".join(space if last else through for last in self.last[1:-1])
        branch = (end if self.last[-1] else more) if len(self.last) > 1 else ""
        return f"{stem}{branch}{one_line(self.node.name)}{_ABOVE if self.again else ''}"


def as_tree(nodes: Sequence[Node], columns: int) -> tuple[TreeLine, ...]:
    """The stacks that nothing needs, each with what it needs below it, in lines of at most `columns` (40 or more).

    A stack that several need is drawn once, and referred to after that. Deep trees get narrow branches.
    """
    places = list(_places(nodes))
    layered = any(node.layer not in ("", node.name) for node in nodes)
    layer_columns = min(_LAYER_COLUMNS, max((len(one_line(node.layer)) for node in nodes), default=0)) + 2 if layered else 0
    room = max(8, columns - layer_columns - 2 - max(map(len, STATUSES)))
    texts = [[place.text(style) for place in places] for style in range(len(_BRANCHES))]
    fitting = next((drawn for drawn in texts if max(map(len, drawn), default=0) <= room), texts[-1])
    cut = [text if len(text) <= room else f"…{text[1 - room :]}" for text in fitting]
    widest = max((len(text) for place, text in zip(places, cut, strict=True) if not place.again), default=0)
    return tuple(_line(place, text, widest, layer_columns) for place, text in zip(places, cut, strict=True))


def _line(place: _Place, text: str, widest: int, layer_columns: int) -> TreeLine:
    if place.again:
        return TreeLine(text, "")
    layer = one_line(place.node.layer) if layer_columns else ""
    if len(layer) > max(0, layer_columns - 2):
        layer = f"{layer[: layer_columns - 3]}…"
    return TreeLine(f"{text:<{widest}}  {layer:<{layer_columns}}", place.node.status)


def _places(nodes: Sequence[Node]) -> Iterator[_Place]:
    """The tree from top to bottom. What a stack needs directly comes in reverse order: what stands on the others goes first."""
    by_name = {node.name: node for node in nodes}
    number = {name: i for i, name in enumerate(by_name)}
    needs = {n.name: sorted(set(n.depends_on) & by_name.keys(), key=number.__getitem__, reverse=True) for n in nodes}
    needed = {name for names in needs.values() for name in names}
    drawn: set[str] = set()
    # What is needed comes after: it is a top of its own only where stacks need each other in a circle.
    for top in [*(name for name in by_name if name not in needed), *(name for name in by_name if name in needed)]:
        open_: list[tuple[str, tuple[bool, ...]]] = [] if top in drawn else [(top, (True,))]
        while open_:
            name, last = open_.pop()
            yield _Place(by_name[name], last, name in drawn)
            if name not in drawn:
                drawn.add(name)
                below = [(need, (*last, i == len(needs[name]) - 1)) for i, need in enumerate(needs[name])]
                open_ += reversed(below)


def as_mermaid(nodes: Sequence[Node]) -> str:
    """A Mermaid flowchart; an arrow goes from a stack to those that need it."""
    ids = {node.name: f"s{i}" for i, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    for number, (layer, members) in enumerate(_layers(nodes)):
        boxes = [f'{ids[m.name]}["{_mermaid(m.name)}<br/>{m.status}"]:::{m.status.replace(" ", "_")}' for m in members]
        if _is_framed(layer, members):
            lines += [f'  subgraph l{number}["{_mermaid(layer)}"]', *(f"    {box}" for box in boxes), "  end"]
        else:
            lines += [f"  {box}" for box in boxes]
    lines += [f"  {ids[below]} --> {ids[above]}" for below, above in _edges(nodes)]
    lines += [
        f"  classDef {status.replace(' ', '_')} fill:{fill},stroke:{line},color:#000" for status, (fill, line) in _FILLS.items()
    ]
    return "\n".join(lines) + "\n"


def as_dot(nodes: Sequence[Node]) -> str:
    """A graph for Graphviz; an arrow goes from a stack to those that need it."""
    ids = {node.name: f"s{i}" for i, node in enumerate(nodes)}
    lines = [
        "digraph stacks {",
        "  rankdir=LR",
        '  graph [fontname="Helvetica", color="#8a8a8a"]',
        '  node [fontname="Helvetica", shape=box, style="rounded,filled"]',
        '  edge [color="#8a8a8a"]',
    ]
    for number, (layer, members) in enumerate(_layers(nodes)):
        boxes = [_dot_box(ids[member.name], member) for member in members]
        if _is_framed(layer, members):
            lines += [f"  subgraph cluster_{number} {{", f'    label="{_dot(layer)}"', *(f"    {box}" for box in boxes), "  }"]
        else:
            lines += [f"  {box}" for box in boxes]
    lines += [f"  {ids[below]} -> {ids[above]}" for below, above in _edges(nodes)]
    return "\n".join(lines) + "\n}\n"


def _dot_box(identifier: str, node: Node) -> str:
    fill, line = _FILLS[node.status]
    return f'{identifier} [label="{_dot(node.name)}\\n{node.status}", fillcolor="{fill}", color="{line}"]'


def as_document(nodes: Iterable[Node]) -> list[dict[str, object]]:
    """The stacks for programs."""
    return [{"name": n.name, "layer": n.layer, "depends_on": list(n.depends_on), "status": n.status} for n in nodes]


def _layers(nodes: Sequence[Node]) -> list[tuple[str, list[Node]]]:
    return [(layer, [n for n in nodes if n.layer == layer]) for layer in dict.fromkeys(n.layer for n in nodes)]


def _is_framed(layer: str, members: Sequence[Node]) -> bool:
    """Whether a frame around the layer says more than its one stack does."""
    return bool(layer) and [member.name for member in members] != [layer]


def _edges(nodes: Sequence[Node]) -> list[tuple[str, str]]:
    """Each stack that is needed, with one that needs it."""
    names: Collection[str] = {node.name for node in nodes}
    return [(below, node.name) for node in nodes for below in sorted(set(node.depends_on)) if below in names]


def one_line(text: str) -> str:
    """`text` without line breaks and characters that a terminal or XML would not show."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split())


_MERMAID = {ord(c): f"#{ord(c)};" for c in '"#$&<>`\\;'}
"""Mermaid's own way to write a character by its number."""
_DOT = {ord('"'): '\\"', ord("\\"): "\\\\", ord("&"): "&amp;"}
"""In a label a backslash escapes, and Graphviz reads HTML's entities."""


def _mermaid(text: str) -> str:
    return one_line(text).translate(_MERMAID) or "#8203;"


def _dot(text: str) -> str:
    return one_line(text).translate(_DOT)
