"""When a stack may start: a pure state machine over the graph. Who runs the stacks is not its business."""

from __future__ import annotations

from collections.abc import Collection

from labctl.model.graph import Graph


class Schedule:
    """Decides which stacks may start. A ready queue, not ranks: a stack starts as soon as all before it have ended well.

    Args:
        graph: All stacks.
        names: Those that are to run. One that needs another by way of a stack that is left out still waits for it.
        limit: How many may run at the same time, at least 1.
        downwards: Destroys: a stack starts when all that depend on it have ended well.
        fail_fast: Nothing new starts once a stack has failed.
    """

    def __init__(
        self, graph: Graph, names: Collection[str], *, limit: int, downwards: bool = False, fail_fast: bool = False
    ) -> None:
        order = graph.in_order(names)
        self._order = order[::-1] if downwards else order
        reach = graph.downstream if downwards else graph.upstream
        self._waits_for = {name: (reach([name]) - {name}) & frozenset(order) for name in self._order}
        self._limit = max(1, limit)
        self._fail_fast = fail_fast
        self._waiting = list(self._order)
        self._running: list[str] = []
        self._well: set[str] = set()
        self._blame: dict[str, str] = {}
        self._halted = False

    @property
    def order(self) -> tuple[str, ...]:
        """The stacks in the order in which they would run one by one."""
        return self._order

    @property
    def running(self) -> tuple[str, ...]:
        """Those that have begun and not ended."""
        return tuple(self._running)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Those that have not begun and are not blocked."""
        return tuple(self._waiting)

    @property
    def blocked(self) -> dict[str, str]:
        """Stacks that will not start, each with the failed stack that is to blame."""
        return dict(self._blame)

    def startable(self) -> tuple[str, ...]:
        """The stacks that may start now, in order."""
        if self._halted:
            return ()
        ready = [name for name in self._waiting if self._waits_for[name] <= self._well]
        return tuple(ready[: self._limit - len(self._running)])

    def begin(self, name: str) -> None:
        """Takes note that a startable stack has started.

        Raises:
            ValueError: It may not start now.
        """
        if name not in self.startable():
            raise ValueError(f"{name} may not start now")
        self._waiting.remove(name)
        self._running.append(name)

    def end(self, name: str, *, well: bool) -> None:
        """Takes note of how a running stack ended; what waits for a failed one is blocked from then on.

        Raises:
            ValueError: It is not running.
        """
        self._running.remove(name)
        if well:
            self._well.add(name)
            return
        for other in [one for one in self._waiting if name in self._waits_for[one]]:
            self._waiting.remove(other)
            self._blame[other] = name
        if self._fail_fast:
            self.halt()

    def halt(self) -> None:
        """Nothing new starts; what runs goes on to its end."""
        self._halted = True
