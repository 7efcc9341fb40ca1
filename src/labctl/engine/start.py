"""Begins and ends a run: the project's lock, its journal, its signals."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.engine.events import Event, Sink
from labctl.engine.interrupt import Interrupted, Interrupts
from labctl.engine.journal import Journal, Unwritten, lab_lock
from labctl.engine.paths import RunPaths, private_files
from labctl.engine.run import Options, Run
from labctl.model.errors import LabError, UserError
from labctl.model.report import KEEP_RUNS

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun

R = TypeVar("R", bound=Run)
_READING = frozenset({"output", "graph", "drift"})
"""Commands whose runs nobody will ask for; they would push those that matter out of the journal."""


def opening(command: str, lab_file: Path | None, app: Path | None, options: Options, view: Sink) -> AbstractContextManager[Run]:
    """A run over the CDKTF project in `app` where that is named, else over a lab.

    Raises:
        UserError: Layers are named, and a project that is no lab has none; else as `starting` and `starting_app`.
    """
    if app is None:
        return starting(command, lab_file, options, view)
    if options.layers:
        raise UserError(
            "--layer is for a lab; a CDKTF project has stacks", hint="Name stacks, or globs: `labctl plan --app DIR 'net-*'`."
        )
    return starting_app(command, app, options, view)


def project_paths(lab_file: Path | None, app: Path | None) -> RunPaths:
    """Where the runs of the CDKTF project in `app`, or else of a lab, leave their things.

    Raises:
        UserError: The project or the lab cannot be opened.
    """
    if app is None:
        from labctl.engine.lab import open_lab

        return open_lab(lab_file).paths
    from labctl.engine.apprun import open_app

    return open_app(app)[1]


@contextmanager
def starting(command: str, lab_file: Path | None, options: Options, view: Sink, patience_s: float = 0.0) -> Iterator[LabRun]:
    """A run over the lab of `lab_file`. Holds the lab's lock; takes signals; ends the Vault login at the end.

    Args:
        command: What runs.
        lab_file: The lab's description.
        options: What the user asked for.
        view: Where events go.
        patience_s: How long another run is waited for.

    Raises:
        InUse: Another run holds it.
        UserError: The lab cannot be opened.
    """
    from labctl.engine.lab import open_lab
    from labctl.engine.labrun import LabRun

    found = open_lab(lab_file)

    def make(**parts: Any) -> LabRun:
        return LabRun(lab=found.lab, guests=found.guests, paths=found.paths, options=options, view=view, **parts)

    with _running(command, found.paths, options, make, keep=found.lab.runs.keep, patience_s=patience_s) as run:
        yield run


@contextmanager
def looking(command: str, lab_file: Path | None, options: Options, view: Sink) -> Iterator[LabRun]:
    """As `starting`, without the lab's lock: for a run that only looks, beside one that works.

    Raises:
        UserError: The lab cannot be opened.
    """
    from labctl.engine.lab import open_lab
    from labctl.engine.labrun import LabRun

    found = open_lab(lab_file)
    found.paths.create()
    with private_files():
        journal = Unwritten(found.paths.drift / f".{command}-{os.getpid()}", command)

        def make(interrupts: Interrupts) -> LabRun:
            return LabRun(
                lab=found.lab,
                guests=found.guests,
                paths=found.paths,
                options=options,
                view=view,
                journal=journal,
                interrupts=interrupts,
            )

        with _ending(journal, make) as run:
            yield run


@contextmanager
def starting_app(command: str, folder: Path, options: Options, view: Sink) -> Iterator[Run]:
    """A run over the CDKTF project in `folder`. Holds the project's lock, and takes signals.

    Raises:
        UserError: There is no such project, or another run holds it.
    """
    from labctl.engine.apprun import AppRun, open_app

    project, paths = open_app(folder)

    def make(**parts: Any) -> AppRun:
        return AppRun(project=project, paths=paths, options=options, view=view, **parts)

    with _running(command, paths, options, make) as run:
        yield run


@contextmanager
def _running(
    command: str,
    paths: RunPaths,
    options: Options,
    make: Callable[..., R],
    *,
    keep: int = KEEP_RUNS,
    patience_s: float = 0.0,
) -> Iterator[R]:
    paths.create()
    with private_files(), lab_lock(paths, command, patience_s):
        journal = Journal(paths, command, options.selection(), keep)
        with _ending(journal, lambda interrupts: make(journal=journal, interrupts=interrupts)) as run:
            yield run


@contextmanager
def _ending(journal: Journal, make: Callable[[Interrupts], R]) -> Iterator[R]:
    """The run that `make` makes, with its signals; whatever happens, it is closed, and its journal too."""
    run: R | None = None

    def say(text: str) -> None:
        if run is not None:
            run.say(text, kind="warning")

    interrupts = Interrupts(say)
    run = make(interrupts)
    try:
        with interrupts.installed():
            yield run
    except LabError as error:
        ended = _as_interrupted(error) if interrupts.count else error
        journal.write(Event("error", ended.message, fields={"where": ended.where, "hint": ended.hint}))
        raise ended from (None if ended is error else error)
    finally:
        run.close()
        journal.close()
        if journal.command in _READING:
            journal.discard()


def _as_interrupted(error: LabError) -> LabError:
    """What failed because the user stopped it: the exit code says interrupted, the words stay."""
    return error if isinstance(error, Interrupted) else Interrupted(error.message, hint=error.hint, where=error.where)
