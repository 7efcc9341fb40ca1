"""The journal of a run (`.labctl/<lab>/runs/<id>/`) and the lock that keeps two runs of one lab apart."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from labctl.engine.events import Event
from labctl.engine.paths import LabPaths, cannot_write
from labctl.model.errors import UserError
from labctl.model.leftovers import unfinished

KEEP_RUNS = 50
EVENTS = "events.jsonl"
PLAN_SUFFIX = ".tfplan"
_DURABLE = frozenset({"run", "stage", "stack", "plan", "report"})


class Journal:
    """Append-only event log of one run; forced to disk where a stage begins or ends.

    Attributes:
        run_id: UTC time and four random letters, sortable.
        folder: `runs/<id>/`; saved plans lie here too.
    """

    def __init__(self, paths: LabPaths, command: str) -> None:
        self.run_id = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ-") + secrets.token_hex(2)
        self.folder = paths.runs / self.run_id
        self._lock = threading.Lock()
        self._started = time.monotonic()
        try:
            self.folder.mkdir(mode=0o700, parents=True)
            self._file: IO[str] = (self.folder / EVENTS).open("a", encoding="utf-8")
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        _prune(paths.runs)
        # Whoever holds the lab's lock is alone: what lies here besides the logs was left by a run that was killed.
        _clear(paths.runs)
        self.write(Event("run", fields={"id": self.run_id, "command": command, "pid": os.getpid(), "host": socket.gethostname()}))

    def write(self, event: Event) -> None:
        """Appends one event.

        Raises:
            UserError: The disk is full.
        """
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event.as_dict()})
        try:
            with self._lock:
                self._file.write(line + "\n")
                self._file.flush()
                if event.type in _DURABLE:
                    os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def close(self) -> None:
        """Closes the log, and removes what else the run kept: its plans hold every value of their stacks, and are of no use."""
        self._file.close()
        _clear(self.folder.parent)


def _prune(runs: Path) -> None:
    for old in sorted(path for path in runs.iterdir() if path.is_dir())[:-KEEP_RUNS]:
        if not _is_needed(runs, old):
            shutil.rmtree(old, ignore_errors=True)


def _is_needed(runs: Path, old: Path) -> bool:
    """Whether what it left may still be there: it was cut off in an apply, and nothing but plans was made since."""
    applied = {str(event.get("stack")) for event in _events(old / EVENTS) if event.get("stage") == "applying"}
    return any(old.name in unfinished(journals(runs), stack).runs for stack in applied)


def _clear(runs: Path) -> None:
    """Removes saved plans, copies of states and scratch folders."""
    for path in runs.glob("*/*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != EVENTS:
            path.unlink(missing_ok=True)


def journals(runs: Path, but: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The runs that are kept with their events, the newest first; a line that a kill cut off is left out.

    Args:
        runs: `.labctl/<lab>/runs/`.
        but: A run to leave out: the one that asks.
    """
    for folder in sorted((path for path in runs.iterdir() if path.is_dir()), reverse=True):
        if folder.name != but:
            yield folder.name, _events(folder / EVENTS)


def _events(file: Path) -> list[dict[str, Any]]:
    found = []
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    return found


@contextmanager
def lab_lock(paths: LabPaths, command: str) -> Iterator[None]:
    """Holds the lab for one run. The lock goes with the process, so a killed run leaves none.

    Raises:
        UserError: Another run holds it; the message says which, since when and with what process.
    """
    path = paths.root / "run.lock"
    try:
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise _held(handle.read(), paths.name) from None
        handle.truncate(0)
        holder = {"command": command, "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        handle.write(json.dumps(holder))
        handle.flush()
        yield


def _held(text: str, lab: str) -> UserError:
    try:
        holder: dict[str, Any] = json.loads(text)
    except ValueError:
        holder = {}
    who = f"labctl {holder.get('command', '?')} (process {holder.get('pid', '?')}, since {holder.get('since', '?')})"
    return UserError(f"lab {lab!r} is in use by {who}", hint="Wait until it has ended, or stop it with Ctrl-C there.")
