"""How a run looks while it goes: a live table on a terminal, plain lines in a pipe, one JSON event a line for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from labctl.cli._errors import JSON_WANTED, tell
from labctl.cli._terminal import is_terminal, print_whole
from labctl.model.errors import LabError

if TYPE_CHECKING:
    from labctl.engine.events import Event, Sink

# What only a live view shows: on plain lines it would be noise.
_QUIET = frozenset({"run", "stage", "progress", "stacks", "plan", "report"})


@contextmanager
def view(context: typer.Context, *, quiet: bool = False) -> Iterator[Sink]:
    """The view that fits: JSON when asked for, nearly nothing when quiet, live on a terminal, else plain lines."""
    if context.meta.get(JSON_WANTED):
        stream = JsonLines()
        try:
            yield stream
        except LabError as error:
            tell(error, context)
            raise
        finally:
            stream.close()
    elif quiet:
        yield complaints
    elif is_terminal(sys.stdout):
        from labctl.cli._live import LiveView

        with LiveView() as live:
            yield live
    else:
        yield plain_lines


class JsonLines:
    """One event a line. The report is held back: it is the last line, after the error where there is one."""

    def __init__(self) -> None:
        self._report: Event | None = None

    def __call__(self, event: Event) -> None:
        """Takes one event."""
        if event.type == "report":
            self._report = event
        else:
            print_whole(json.dumps(event.as_dict()))

    def close(self) -> None:
        """Prints what was held back."""
        if self._report is not None:
            print_whole(json.dumps(self._report.as_dict()))
            self._report = None


def plain_lines(event: Event) -> None:
    """One line an event, prefixed with the stack."""
    line = _line(event)
    if line:
        # Warnings go where the errors go, so that a pipe carries what was asked for.
        stream = sys.stderr if event.type in ("warning", "error") else sys.stdout
        hints = str(event.fields.get("hint", "")).splitlines() if stream is sys.stderr else []
        print_whole("\n".join((line, *(f"  {hint}" for hint in hints))), stream)


def complaints(event: Event) -> None:
    """Only what must not go unheard."""
    if event.type in ("warning", "error"):
        plain_lines(event)


def _line(event: Event) -> str:
    if event.type in _QUIET or not event.text or event.fields.get("state") == "start":
        return ""
    prefix = f"[{event.stack}] " if event.stack else ""
    if event.type in ("warning", "error"):
        return f"{event.type}: {prefix}{event.text}"
    return prefix + event.text
