"""Child processes that never outlive the sandbox: they die with it, and what a killed one left is ended by the next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labctl.sandbox import launch
from labctl.sandbox.pids import start_time

PATH = "/usr/local/bin:/usr/bin:/bin"
_LEFTOVER_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started."""

    process: asyncio.subprocess.Process
    started: str

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


class Children:
    """Starts processes and writes down which.

    Args:
        register: The file that says which processes are ours.
    """

    def __init__(self, register: Path) -> None:
        self._register = register
        self._running: dict[int, Child] = {}

    async def start(self, command: list[str], folder: Path, log_file: Path) -> Child:
        """Start a process with nothing of our environment in it.

        Args:
            command: Program and arguments.
            folder: Its working directory, also its HOME; it must be there.
            log_file: Where its output is appended.

        Raises:
            OSError: It cannot be started.
        """
        with _appended(log_file) as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                launch.__file__,
                str(os.getpid()),
                *command,
                cwd=folder,
                env={"PATH": PATH, "HOME": str(folder), "LANG": "C.UTF-8"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        child = Child(process, start_time(process.pid))
        self._running[child.pid] = child
        self._write()
        return child

    async def end(self, child: Child, grace_s: float) -> None:
        """End a process: SIGTERM, up to `grace_s` seconds, SIGKILL."""
        if child.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
            try:
                await asyncio.wait_for(child.process.wait(), grace_s)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    child.process.kill()
                await child.process.wait()
        self.forget(child)

    def forget(self, child: Child) -> None:
        """Strike a process that has ended from the register."""
        self._running.pop(child.pid, None)
        self._write()

    def _write(self) -> None:
        entries = [{"pid": child.pid, "started": child.started} for child in self._running.values()]
        fresh = self._register.with_suffix(".new")
        # Where the sandbox's folder is gone, there is no later sandbox to tell.
        with contextlib.suppress(FileNotFoundError):
            fresh.write_text(json.dumps(entries))
            fresh.replace(self._register)

    def end_leftovers(self, grace_s: float = _LEFTOVER_GRACE_S) -> list[int]:
        """End what an earlier, killed sandbox left running, and return its process ids. A recycled pid is left alone."""
        try:
            entries = json.loads(self._register.read_text())
        except (OSError, ValueError):
            return []
        found = [(int(entry["pid"]), str(entry["started"])) for entry in entries if entry.get("started")]
        ours = [(pid, started) for pid, started in found if start_time(pid) == started]
        end_processes(ours, grace_s)
        self._register.unlink(missing_ok=True)
        return [pid for pid, _ in ours]


def _appended(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def end_processes(processes: list[tuple[int, str]], grace_s: float) -> None:
    """End processes named by pid and start time: SIGTERM, up to `grace_s` seconds, SIGKILL."""
    deadline = time.monotonic() + grace_s
    _signal(processes, signal.SIGTERM)
    while any(start_time(pid) == started for pid, started in processes):
        if time.monotonic() > deadline:
            _signal(processes, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.05)


def _signal(processes: list[tuple[int, str]], number: signal.Signals) -> None:
    for pid, started in processes:
        if start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
