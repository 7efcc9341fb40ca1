"""Begins and ends a run: the lab's lock, its journal, its signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.engine.events import Event, Sink
from labctl.engine.interrupt import Interrupted, Interrupts
from labctl.engine.journal import Journal, lab_lock
from labctl.engine.lab import open_lab
from labctl.engine.paths import private_files
from labctl.engine.run import Options, Run
from labctl.model.errors import LabError


@contextmanager
def starting(command: str, lab_file: Path | None, options: Options, view: Sink) -> Iterator[Run]:
    """A run over the lab of `lab_file`. Holds the lab's lock; takes signals; ends the Vault login at the end.

    Raises:
        UserError: The lab cannot be opened, or another run holds it.
    """
    found = open_lab(lab_file)
    found.paths.create()
    with private_files(), lab_lock(found.paths, command):
        journal = Journal(found.paths, command, found.lab.runs.keep)
        run: Run | None = None

        def say(text: str) -> None:
            if run is not None:
                run.say(text, kind="warning")

        interrupts = Interrupts(say)
        run = Run(found.lab, found.paths, options, journal, interrupts, view)
        try:
            with interrupts.installed():
                yield run
        except LabError as error:
            ended = _as_interrupted(error) if interrupts.count else error
            journal.write(Event("error", ended.message, fields={"where": ended.where, "hint": ended.hint}))
            raise ended from (None if ended is error else error)
        finally:
            if run.session is not None:
                run.session.close()
            run.disconnect()
            journal.close()


def _as_interrupted(error: LabError) -> LabError:
    """What failed because the user stopped it: the exit code says interrupted, the words stay."""
    return error if isinstance(error, Interrupted) else Interrupted(error.message, hint=error.hint, where=error.where)
