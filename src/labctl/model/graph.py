"""Stacks and what they need, as a graph: order, ranks, selection. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from labctl.model.errors import UserError, nearest


@dataclass(frozen=True)
class Graph:
    """Stacks with their dependencies; made by `make_graph`, so that there is no circle and no unknown name.

    Attributes:
        needs: Each stack with the stacks that must be applied before it, in an order in which they can be applied.
    """

    needs: Mapping[str, frozenset[str]]

    @property
    def order(self) -> tuple[str, ...]:
        """Every stack after all that it needs; among equals by name."""
        return tuple(self.needs)

    def ranks(self) -> tuple[tuple[str, ...], ...]:
        """Stacks in groups: each needs only stacks of earlier groups, and at least one of the group before."""
        rank: dict[str, int] = {}
        for name in self.order:
            rank[name] = 1 + max((rank[up] for up in self.needs[name]), default=-1)
        groups: list[list[str]] = [[] for _ in range(1 + max(rank.values(), default=-1))]
        for name, number in rank.items():
            groups[number].append(name)
        return tuple(tuple(group) for group in groups)

    def upstream(self, names: Iterable[str]) -> frozenset[str]:
        """The stacks, and all that they need, directly or not."""
        found = set(names)
        for name in reversed(self.order):
            if name in found:
                found |= self.needs[name]
        return frozenset(found)

    def downstream(self, names: Iterable[str]) -> frozenset[str]:
        """The stacks, and all that need them, directly or not."""
        found = set(names)
        for name in self.order:
            if self.needs[name] & found:
                found.add(name)
        return frozenset(found)

    def matching(self, patterns: Iterable[str]) -> frozenset[str]:
        """The stacks that names or globs (`*`, `?`, `[…]`) name.

        Raises:
            UserError: A pattern names no stack; the nearest is offered.
        """
        found: set[str] = set()
        for pattern in patterns:
            hits = {name for name in self.needs if fnmatchcase(name, pattern)}
            if not hits:
                raise UserError(f"no stack is named {pattern!r}", hint=nearest(pattern, self.needs))
            found |= hits
        return frozenset(found)

    def in_order(self, names: Collection[str]) -> tuple[str, ...]:
        """These stacks in the order in which they are applied."""
        return tuple(name for name in self.order if name in names)


def make_graph(needs: Mapping[str, Iterable[str]], where: str = "") -> Graph:
    """A graph of stacks.

    Args:
        needs: Each stack with the stacks that it needs.
        where: Where this was read, for errors.

    Raises:
        UserError: A stack needs itself, an unknown stack, or stacks need each other in a circle; each edge of it is named.
    """
    waiting = {name: frozenset(needs[name]) for name in sorted(needs)}
    for name, ups in waiting.items():
        for up in sorted(ups - waiting.keys()):
            raise UserError(f"stack {name!r} needs {up!r}, which does not exist", where=where, hint=nearest(up, waiting))
    ordered: dict[str, frozenset[str]] = {}
    while waiting:
        ready = [name for name, ups in waiting.items() if ups <= ordered.keys()]
        if not ready:
            circle = _circle(waiting)
            edges = ", ".join(f"{a!r} needs {b!r}" for a, b in zip(circle, circle[1:] + circle[:1], strict=True))
            raise UserError(f"stacks need each other in a circle: {edges}", where=where, hint="Take one of these references out.")
        for name in ready:
            ordered[name] = waiting.pop(name)
    return Graph(ordered)


def _circle(waiting: Mapping[str, frozenset[str]]) -> list[str]:
    """One circle among stacks of which each waits for another."""
    path: list[str] = [min(waiting)]
    while True:
        following = min(up for up in waiting[path[-1]] if up in waiting)
        if following in path:
            return path[path.index(following) :]
        path.append(following)
