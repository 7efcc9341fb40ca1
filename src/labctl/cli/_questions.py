"""Questions that a command asks."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import typer

from labctl.cli._errors import JSON_WANTED
from labctl.cli._picture import show_picture
from labctl.cli._terminal import can_ask, colour, forget_typed
from labctl.model.errors import UserError

if TYPE_CHECKING:
    from labctl.engine.events import Sink
    from labctl.model.plan import StackPlan

Confirm = Callable[[Sequence["StackPlan"]], bool]


def somebody_to_ask(context: typer.Context, verb: str, *, yes: bool) -> None:
    """Stops a command that will have a question where nobody could answer it; called before anything else.

    Raises:
        UserError: There is no terminal to ask on, or its output is for a program; and no `--yes`.
    """
    if yes or (can_ask() and not context.meta.get(JSON_WANTED)):
        return
    reason = "--json leaves no place for a question" if can_ask() else "there is no terminal to ask on"
    raise UserError(
        f"`labctl {verb}` asks before it changes anything, and {reason}",
        hint="Add --yes to go ahead without a question.",
    )


def confirmation(context: typer.Context, sink: Sink, *, yes: bool, question: str) -> Confirm:
    """Shows the picture and asks; with `--yes` it only shows, and with `--json` not even that."""
    silent = bool(context.meta.get(JSON_WANTED))
    paused = getattr(sink, "paused", nullcontext)

    def confirm(plans: Sequence[StackPlan]) -> bool:
        if silent:
            return yes
        with paused():
            show_picture(plans)
            sys.stdout.flush()
            return yes or (can_ask() and ask(question))

    return confirm


def confirm_loss(context: typer.Context, verb: str, question: str, *, yes: bool) -> bool:
    """Asks before something is lost.

    Raises:
        UserError: There is no terminal to ask on, and no `--yes`.
    """
    somebody_to_ask(context, verb, yes=yes)
    return yes or ask(question)


def ask(question: str) -> bool:
    """Asks a yes/no question on the terminal; no is the default, and the end of the input is a no.

    Raises:
        Interrupted: Ctrl-C.
    """
    from labctl.engine.interrupt import Interrupted

    forget_typed()
    try:
        with _ctrl_c_raises():
            print(colour(question, "bold", sys.stdout) + " [y/N] ", end="", flush=True)
            answer = sys.stdin.readline()
    except KeyboardInterrupt:
        print()
        raise Interrupted("interrupted at the question", hint="Run the command again to go on.") from None
    if not answer:
        print()
    return answer.strip().lower() in ("y", "yes")


@contextmanager
def _ctrl_c_raises() -> Iterator[None]:
    """A run only takes note of signals, and a read goes on after one: here they end it."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {name: signal.signal(name, signal.default_int_handler) for name in names}
    try:
        yield
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)
