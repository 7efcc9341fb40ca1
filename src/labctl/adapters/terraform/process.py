"""A Terraform process: started, followed line by line, interrupted, recorded.

Its output goes into anonymous memory files, not pipes. If labctl is killed, a pipe would break, Go programs die of a write to a
broken stdout, and Terraform would end in the middle of an apply without having stored its state or released its lock. This way
it finishes its work, and the record of its pid (`records`) tells the next run about it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labctl.adapters.terraform.records import ChildRecord, read_records, start_ticks, starting_record, write_records

LineSink = Callable[[str], None]

_POLL_S = 0.05
_CHUNK = 1 << 16
_GAVE_UP = "Two interrupts received"
"""What Terraform says when it is asked twice: it ends at once then, and its lock may stay."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        exit_code: As the program gave it; negative is the signal that killed it.
        stdout: All it wrote.
        stderr: All it wrote there.
        seconds: How long it ran.
    """

    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def cut_off(self) -> bool:
        """Whether it ended in the middle of its work, so that it may have left a lock."""
        return self.exit_code < 0 or _GAVE_UP in self.stderr or _GAVE_UP in self.stdout


class Child:
    """One running process in a session of its own, so that Ctrl-C in the terminal reaches labctl only.

    Args:
        argv: The command line.
        cwd: Its working folder.
        env: Its whole environment.
        record: Where its pid is noted while it runs, None for commands that change nothing.
        command: What to note there as its work.

    Raises:
        OSError: It could not be started.
    """

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], record: Path | None = None, command: str = ""
    ) -> None:
        self.interrupted = False
        self._record_file = record
        self._record: ChildRecord | None = None
        self._offset = 0
        self._rest = b""
        self._lines: deque[str] = deque()
        self._ended = threading.Event()
        self._out, self._err = _memory_file("stdout"), _memory_file("stderr")
        self._began = time.monotonic()
        # Written down before it starts: labctl may be killed right after.
        self._note(starting_record(command))
        try:
            self._process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                start_new_session=True,
                # Plans and states hold sensitive values, and Terraform itself writes them for all to read.
                umask=0o077,
            )
        except OSError:
            self._close()
            raise
        threading.Thread(target=self._await_end, name=f"terraform-{self._process.pid}", daemon=True).start()
        if self._record is not None:
            self._note(replace(self._record, pid=self.pid, start=start_ticks(self.pid)))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def interrupt(self) -> bool:
        """Asks it to finish and keep its state (SIGINT); asked twice, Terraform gives up at once. False if it has ended."""
        if self._ended.is_set():
            return False
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        return True

    def wait(self, sink: LineSink | None = None) -> Ended:
        """Follows it to its end; each whole line of its stdout goes to the sink as it comes.

        A KeyboardInterrupt on the way interrupts the process instead of this function (`interrupted` is then set). If the sink
        raises, the process is interrupted, waited for, and the exception goes on.
        """
        try:
            self._follow(sink)
        finally:
            if not self._ended.is_set():
                self.interrupt()
                self._follow(None)
            ended = Ended(self._process.returncode, _read_all(self._out), _read_all(self._err), time.monotonic() - self._began)
            self._close(keep_record=ended.cut_off)
        return ended

    def _follow(self, sink: LineSink | None) -> None:
        while True:
            try:
                while not self._ended.wait(_POLL_S):
                    self._deliver(sink)
                self._deliver(sink, last=True)
            except KeyboardInterrupt:
                self.interrupted = True
                self.interrupt()
            else:
                return

    def _deliver(self, sink: LineSink | None, *, last: bool = False) -> None:
        if sink is None:
            return
        while chunk := os.pread(self._out, _CHUNK, self._offset):
            self._offset += len(chunk)
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            self._lines.extend(line.decode(errors="replace") for line in whole)
        if last and self._rest:
            self._lines.append(self._rest.decode(errors="replace"))
            self._rest = b""
        while self._lines:
            sink(self._lines.popleft())

    def _await_end(self) -> None:
        # A killed Terraform leaves its provider behind (`orphans`). As long as it is not reaped, the group is certainly its own.
        with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._ended.set()

    def _note(self, record: ChildRecord | None) -> None:
        """Puts this process's record in place of its last one; those of others stay."""
        if self._record_file is None:
            return
        others = tuple(one for one in read_records(self._record_file) if one != self._record)
        # On a full disk the run is worth more than its record.
        with contextlib.suppress(OSError):
            write_records(self._record_file, others if record is None else (*others, record))
        self._record = record

    def _close(self, *, keep_record: bool = False) -> None:
        os.close(self._out)
        os.close(self._err)
        if not keep_record:
            self._note(None)


def _memory_file(name: str) -> int:
    if sys.platform == "linux":
        descriptor = os.memfd_create(f"labctl-{name}")
    else:
        with tempfile.TemporaryFile() as unnamed:
            descriptor = os.dup(unnamed.fileno())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return descriptor


def _read_all(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    parts, offset = [], 0
    while offset < size and (part := os.pread(descriptor, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts).decode(errors="replace")
