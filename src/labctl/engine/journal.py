"""The journal of a run (`.labctl/<lab>/runs/<id>/`) and the lock that keeps two runs of one lab apart."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from labctl.engine.events import Event
from labctl.engine.paths import RunPaths, cannot_write
from labctl.model.errors import UserError

KEEP_RUNS = 50
PLAN_SUFFIX = ".tfplan"
_DURABLE = frozenset({"plan", "report"})


class Journal:
    """Append-only event log of one run. No kill of labctl loses a line of it.

    A machine that loses its power may. So it is forced to disk where a later run goes by it: with the picture, from the moment
    that a stack is being applied on with each stage of that, and with the report. Each time costs milliseconds.

    Attributes:
        run_id: UTC time and four random letters, sortable.
        folder: `runs/<id>/`; saved plans lie here too.
        command: `up`, `plan` or `down`.
        began: When, ISO 8601 in UTC.
    """

    def __init__(self, paths: RunPaths, command: str, selection: Mapping[str, Any] | None = None) -> None:
        now = datetime.now(UTC)
        self.command, self.began = command, now.isoformat(timespec="seconds")
        self.run_id = now.strftime("%Y%m%dT%H%M%SZ-") + os.urandom(2).hex()
        self.folder = paths.runs / self.run_id
        self._lock = threading.Lock()
        self._applying: set[str] = set()
        self._started = time.monotonic()
        try:
            self.folder.mkdir(mode=0o700, parents=True)
            self._file: IO[str] = (self.folder / "events.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        _prune(paths.runs)
        # Whoever holds the lab's lock is alone: saved plans that lie here are those of a run that was killed.
        _remove_plans(paths.runs)
        fields = {"id": self.run_id, "command": command, "pid": os.getpid(), "host": os.uname().nodename}
        self.write(Event("run", fields={**fields, "selection": dict(selection or {})}))

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
                if self._is_durable(event):
                    os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def _is_durable(self, event: Event) -> bool:
        if event.type == "stack":
            if event.fields.get("stage") == "applying":
                self._applying.add(event.stack)
            return event.stack in self._applying
        return event.type in _DURABLE or (event.type == "stage" and bool(self._applying))

    def close(self) -> None:
        """Closes the log, and removes the saved plans: they hold every value of their stacks, and are of no use any more."""
        self._file.close()
        _remove_plans(self.folder.parent)


def _prune(runs: Path) -> None:
    for old in sorted(path for path in runs.iterdir() if path.is_dir())[:-KEEP_RUNS]:
        shutil.rmtree(old, ignore_errors=True)


def _remove_plans(runs: Path) -> None:
    for plan in runs.glob(f"*/*{PLAN_SUFFIX}"):
        plan.unlink(missing_ok=True)


def journals(runs: Path, but: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The runs that are kept with their events, the newest first; a line that a kill cut off is left out.

    Args:
        runs: `.labctl/<lab>/runs/`.
        but: A run to leave out: the one that asks.
    """
    for folder in sorted((path for path in runs.iterdir() if path.is_dir()), reverse=True):
        if folder.name != but:
            yield folder.name, _events(folder / "events.jsonl")


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
def lab_lock(paths: RunPaths, command: str) -> Iterator[None]:
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
