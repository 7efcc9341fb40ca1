"""The live view: a table of stacks that is redrawn in place; lines worth keeping scroll above it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from labctl.cli._terminal import Echo, cut

if TYPE_CHECKING:
    from labctl.engine.events import Event

_TITLES = ("STACK", "STAGE", "CHANGES", "TIME")
_GAP = 2
_PER_SECOND = 8


@dataclass
class Row:
    """A stack in the table.

    Attributes:
        stage: What is done with it.
        current: Resources or a step on their way.
        counts: What its plan does, `+3 ~1`.
        busy_s: Seconds of work so far, up to `since`.
        since: When the present work began, None while it waits.
        running: Addresses of resources on their way.
    """

    stage: str = "waiting"
    current: str = ""
    counts: str = ""
    busy_s: float = 0.0
    since: float | None = None
    running: dict[str, None] = field(default_factory=dict)

    def seconds(self, now: float) -> float:
        """Seconds of work, questions and waiting for other stacks left out."""
        return self.busy_s + (now - self.since if self.since is not None else 0.0)

    def work(self, now: float, *, ended: bool) -> None:
        """Starts or stops its clock."""
        if ended:
            self.busy_s, self.since = self.seconds(now), None
        elif self.since is None:
            self.since = now

    def doing(self) -> str:
        """What it is at, most telling part first."""
        if not self.running:
            return self.current
        names = [short(address) for address in self.running]
        return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def short(address: str) -> str:
    """A resource's address without what all of them have in common."""
    for prefix in ("proxmox_virtual_environment_", "proxmox_"):
        address = address.removeprefix(prefix)
    return address


def table(rows: Sequence[tuple[str, Row]], columns: int, now: float) -> list[str]:
    """The table's lines, the titles first; none is longer than `columns`, and only the middle column gives way."""
    cells = [_TITLES, *((name, row.stage, row.counts, f"{row.seconds(now):.0f}s") for name, row in rows)]
    stack, stage, counts, clock = (max(len(line[i]) for line in cells) for i in range(4))
    room = columns - stack - stage - counts - clock - 4 * _GAP - 1
    gap = " " * _GAP
    lines = []
    for index, (name, word, change, took) in enumerate(cells):
        middle = cut(rows[index - 1][1].doing(), room) if index and room > 0 else ""
        line = gap.join(
            (f"{name:<{stack}}", f"{word:<{stage}}", f"{middle:<{max(0, room)}}", f"{change:<{counts}}", f"{took:>{clock}}")
        )
        lines.append(cut(line, columns - 1))
    return lines


class LiveView:
    """Takes the events of a run and shows where it is. Keeps to the terminal's width, leaves nothing of the table behind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(highlight=False)
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._order: list[str] = []
        self._lock = threading.RLock()
        self._stage, self._detail, self._since = "starting", "", clock()
        self._live: Live | None = None
        self._echo = Echo()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        # A new one each time: a stopped Live still knows how many lines it had drawn, and would take them from the text above.
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._echo.off()
        self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._echo.back()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Gives the terminal back, for a picture or a question."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def __call__(self, event: Event) -> None:
        """Takes one event."""
        with self._lock:
            if event.type == "stage":
                self._stage, self._detail, self._since = event.text, "", self._clock()
            elif event.type == "stacks":
                self._order = [str(stack["name"]) for stack in event.fields.get("stacks", ())]
            elif event.type == "stack":
                self._stack_event(event)
            elif event.type == "resource":
                self._resource_event(event)
            elif event.type in ("step", "progress"):
                self._step_event(event)
            elif event.type in ("warning", "error"):
                self._keep(event, "yellow" if event.type == "warning" else "red")
            elif event.type == "note":
                self._keep(event)

    def _row(self, stack: str) -> Row:
        return self._rows.setdefault(stack, Row())

    def _keep(self, event: Event, tone: str = "") -> None:
        where = f"{event.stack}: {event.text}" if event.stack else event.text
        text = Text.assemble((f"{event.type}: ", tone), where) if tone else Text(where)
        for line in str(event.fields.get("hint", "")).splitlines() if tone else ():
            text.append(f"\n  {line}")
        self._console.print(text, soft_wrap=True)

    def _stack_event(self, event: Event) -> None:
        row = self._row(event.stack)
        row.stage = str(event.fields.get("stage", row.stage))
        row.counts = str(event.fields.get("counts", row.counts))
        row.current = ""
        row.running.clear()
        row.work(self._clock(), ended=bool(event.fields.get("ended")))

    def _resource_event(self, event: Event) -> None:
        row = self._row(event.stack)
        address = str(event.fields.get("address", ""))
        if event.fields.get("state") in ("complete", "errored"):
            row.running.pop(address, None)
        else:
            row.running[address] = None
        row.current = ""

    def _step_event(self, event: Event) -> None:
        if event.stack:
            self._row(event.stack).current = event.text
        else:
            self._detail = event.text

    def _render(self) -> Any:
        with self._lock:
            now, columns = self._clock(), self._console.width
            known = [name for name in self._order if name in self._rows]
            names = known + [name for name in self._rows if name not in known]
            shown = self._lines(names, columns, self._console.height, now)
            lines = [Text(line, style="dim" if i == 0 else "", no_wrap=True) for i, line in enumerate(shown)]
            return Text("\n", no_wrap=True).join(lines)

    def _lines(self, names: list[str], columns: int, height: int, now: float) -> list[str]:
        idle = all(row.since is None for row in self._rows.values())
        doing = f"… {self._stage} {now - self._since:.0f}s"
        if self._detail:
            doing += f"  {self._detail}"
        status = cut(doing, columns - 1)
        if not names:
            return [status]
        room = height - 3  # the titles, a line about the rest, and the line that the cursor is on
        busy = [name for name in names if self._rows[name].since is not None]
        chosen = names if len(names) <= room else busy[:room]
        lines = table([(name, self._rows[name]) for name in chosen], columns, now)
        if len(chosen) < len(names):
            lines.append(cut(self._rest(set(names) - set(chosen)), columns - 1))
        return [*lines, status] if idle else lines

    def _rest(self, names: set[str]) -> str:
        """How many stacks are where, of those that the terminal has no line for: `and 37 applied, 8 planning`."""
        stages = Counter(self._rows[name].stage for name in names)
        return "and " + ", ".join(f"{number} {stage}" for stage, number in stages.most_common())
