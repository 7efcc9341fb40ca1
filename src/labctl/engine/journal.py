"""The journal of a run (`.labctl/<lab>/runs/<id>/`) and the lock that keeps two runs of one lab apart."""

from __future__ import annotations

import fcntl
import json
import os
import re
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
from labctl.model.leftovers import in_doubt, unfinished
from labctl.model.report import KEEP_RUNS, MOST_RUNS

EVENTS = "events.jsonl"
LOCK = "run.lock"
_LOCK_POLL_S = 0.2
_KERNEL_LOCKS = Path("/proc/locks")
_ID_TIME = "%Y%m%dT%H%M%SZ-"
_TICKS = 0x10000
"""Into how many parts the four letters at the end of a run's id divide a second."""
PLAN_SUFFIX = ".tfplan"
KEPT_SUFFIX = ".saved-plan"
PLAN_DOCUMENT = "plan.json"
_KEPT = frozenset({EVENTS, PLAN_DOCUMENT, "report.json", "report.md", "report.xml"})
_DURABLE = frozenset({"plan", "report"})


class Journal:
    """Append-only event log of one run. No kill of labctl loses a line of it.

    A machine that loses its power may. So it is forced to disk where a later run goes by it: with the picture, from the moment
    that a stack is being applied on with each stage of that, and with the report. Each time costs milliseconds.

    Args:
        paths: The lab's folders.
        command: What runs.
        keep: How many runs to keep, this one among them.

    Attributes:
        run_id: UTC time and four letters, the fraction of the second; later runs of a lab have later ids.
        folder: `runs/<id>/`; saved plans lie here too.
        command: `up`, `plan` or `down`.
        began: When, ISO 8601 in UTC.
    """

    def __init__(self, paths: RunPaths, command: str, selection: Mapping[str, Any] | None = None, keep: int = KEEP_RUNS) -> None:
        now = datetime.now(UTC)
        self.command, self.began = command, now.isoformat(timespec="seconds")
        self.run_id = _next_id(paths.runs, now)
        self.folder = paths.runs / self.run_id
        self._lock = threading.Lock()
        self._applying: set[str] = set()
        self._started = time.monotonic()
        try:
            self.folder.mkdir(mode=0o700, parents=True)
            self._file: IO[str] = (self.folder / EVENTS).open("a", encoding="utf-8")
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        _prune(paths.runs, self.run_id, keep)
        # Whoever holds the lab's lock is alone: what lies here besides what is kept was left by a run that was killed.
        _clear(paths.runs)
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
        """Closes the log, and removes what else the run kept: its plans hold every value of their stacks, and are of no use."""
        self._file.close()
        _clear(self.folder.parent)

    def discard(self) -> None:
        """Removes the log of a run that only read."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _next_id(runs: Path, now: datetime) -> str:
    """An id after those of all kept runs, also of those in the same second, or when the clock was set back."""
    ticks = int(now.timestamp() * _TICKS)
    folders = runs.iterdir() if runs.is_dir() else ()
    ticks = max([ticks, *(1 + kept for folder in folders if (kept := _ticks(folder.name)) is not None)])
    return datetime.fromtimestamp(ticks // _TICKS, UTC).strftime(_ID_TIME) + f"{ticks % _TICKS:04x}"


def _ticks(run_id: str) -> int | None:
    try:
        second, part = run_id.split("-")
        return int(datetime.fromisoformat(second).timestamp()) * _TICKS + int(part, 16)
    except ValueError:
        return None


def _prune(runs: Path, own: str, keep: int) -> None:
    """Removes the oldest runs, but none by which a later run proves that what a cut-off one left is the lab's own."""
    others = sorted((path for path in runs.iterdir() if path.is_dir() and path.name != own), reverse=True)
    old, too_old = others[keep - 1 :], others[MOST_RUNS - 1 :]
    stacks = {stack for folder in old for stack in in_doubt(events_of(folder))}
    needed = {run for stack in stacks for run in unfinished(journals(runs), stack).runs}
    for folder in old:
        if folder.name not in needed or folder in too_old:
            shutil.rmtree(folder, ignore_errors=True)


def _clear(runs: Path) -> None:
    """Removes plans that nobody asked to keep, copies of states and scratch folders."""
    for path in runs.glob("*/*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in _KEPT and not path.name.endswith(KEPT_SUFFIX):
            path.unlink(missing_ok=True)


def journals(runs: Path, but: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The runs that are kept with their events, the newest first; a line that a kill cut off is left out.

    Args:
        runs: `.labctl/<lab>/runs/`.
        but: A run to leave out: the one that asks.
    """
    for folder in sorted((path for path in runs.iterdir() if path.is_dir()), reverse=True):
        if folder.name != but:
            yield folder.name, events_of(folder)


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The events of a run; none where its journal cannot be read."""
    found = []
    try:
        lines = (folder / EVENTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    return found


class Unwritten(Journal):
    """Of a run that only looks, and that does not hold the lab: nothing of another run is touched, and nothing stays.

    Args:
        folder: Its own, for plans. It must not be there yet.
        command: What runs.
    """

    def __init__(self, folder: Path, command: str) -> None:
        self.command, self.began = command, datetime.now(UTC).isoformat(timespec="seconds")
        self.run_id, self.folder = folder.name, folder
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise cannot_write(folder, error) from error

    def write(self, event: Event) -> None:
        """Keeps nothing."""

    def close(self) -> None:
        """Removes the folder."""
        self.discard()


@contextmanager
def lab_lock(paths: RunPaths, command: str, patience_s: float = 0.0) -> Iterator[None]:
    """Holds the lab for one run. The lock goes with the process, so a killed run leaves none.

    Args:
        paths: The lab's folders.
        command: What runs, for whoever finds it held.
        patience_s: How long another run is waited for.

    Raises:
        InUse: Another run holds it; the message says which, since when and with what process.
    """
    deadline = time.monotonic() + patience_s
    path = paths.root / LOCK
    try:
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    handle.seek(0)
                    raise _held(handle.read(), paths.title) from None
            time.sleep(_LOCK_POLL_S)
        handle.truncate(0)
        holder = {"command": command, "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        handle.write(json.dumps(holder))
        handle.flush()
        yield


def _noted(text: str) -> dict[str, Any]:
    try:
        noted = json.loads(text)
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


class InUse(UserError):
    """Another run holds the lab."""


def _held(text: str, what: str) -> InUse:
    noted = _noted(text)
    who = f"labctl {noted.get('command', '?')} (process {noted.get('pid', '?')}, since {noted.get('since', '?')})"
    return InUse(f"{what} is in use by {who}", hint="Wait until it has ended, or stop it with Ctrl-C there.")


def holder(paths: RunPaths) -> int | None:
    """The process that holds the lab, None where nobody does.

    Only looks: taking the lock to find out would stop a run that begins. The file outlives its holder, and a process id comes
    again: where the kernel lists its locks, it is asked.
    """
    path = paths.root / LOCK
    try:
        pid = _noted(path.read_text(encoding="utf-8")).get("pid")
        if not isinstance(pid, int):
            return None
        os.kill(pid, 0)
        locks = _KERNEL_LOCKS.read_text(encoding="utf-8") if _KERNEL_LOCKS.is_file() else None
        number = path.stat().st_ino
    except OSError:
        return None
    # As in `1: FLOCK  ADVISORY  WRITE 5547 fe:00:10477680 0 EOF`.
    held = locks is None or re.search(rf"FLOCK\s+ADVISORY\s+WRITE\s+{pid} [0-9a-f]+:[0-9a-f]+:{number} ", locks)
    return pid if held else None
