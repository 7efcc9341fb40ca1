"""A terminal for tests: a program on a pseudo terminal, and the screen that a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_CONTROL = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    """What is on the screen after the sequences that a redrawn table uses. Lines that scrolled away are kept."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines: list[list[str]] = [[]]
        self.row = self.column = 0
        self.cursor_visible = True
        self.unknown: list[str] = []

    def feed(self, text: str) -> None:
        """Takes the whole output."""
        at = 0
        while at < len(text):
            found = _CONTROL.match(text, at)
            if found:
                self._control(*found.groups())
                at = found.end()
                continue
            self._character(text[at])
            at += 1

    def _character(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self._down()
        elif letter == "\b":
            self.column = max(0, self.column - 1)
        elif letter == "\x1b":
            self.unknown.append("escape")
        elif letter >= " ":
            if self.column == self.columns:
                self.column = 0
                self._down()
            line = self.lines[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = letter
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def _control(self, private: str, numbers: str, kind: str) -> None:
        count = int(numbers) if numbers.isdigit() else 1
        if private:
            if numbers == "25":
                self.cursor_visible = kind == "h"
        elif kind == "A":
            self.row = max(0, self.row - count)
        elif kind == "K" and numbers == "2":
            self.lines[self.row] = []
        elif kind != "m":
            self.unknown.append(f"{numbers}{kind}")

    @property
    def text(self) -> list[str]:
        """The lines, without trailing space and empty lines at the end."""
        found = ["".join(line).rstrip() for line in self.lines]
        while found and not found[-1]:
            found.pop()
        return found


class Terminal:
    """A program on a pseudo terminal of its own."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], columns: int = 80, rows: int = 24) -> None:
        self.columns = columns
        self.raw = ""
        self._bytes = b""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.chdir(cwd)
                os.execve(argv[0], list(argv), dict(env))
            finally:
                os._exit(127)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._fd < 0:
            return
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._fd)

    def send(self, text: str) -> None:
        """Types."""
        os.write(self._fd, text.encode())

    def expect(self, wanted: str, timeout_s: float = 90) -> None:
        """Waits until the output holds `wanted` behind what was expected before."""
        start, limit = len(self.raw), time.monotonic() + timeout_s
        while wanted not in self.raw[max(0, start - len(wanted)) :]:
            assert time.monotonic() < limit, f"{wanted!r} did not come:\n{self.raw[-3000:]}"
            assert self._read(0.2), f"ended before {wanted!r} came:\n{self.raw[-3000:]}"

    def end(self, timeout_s: float = 120) -> int:
        """Waits for the end; returns the exit code."""
        limit = time.monotonic() + timeout_s
        while self._read(0.2):
            assert time.monotonic() < limit, f"it does not end:\n{self.raw[-3000:]}"
        _pid, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        self._fd = -1
        return os.waitstatus_to_exitcode(status)

    def quiet_for(self, seconds: float) -> bool:
        """Whether it neither ends nor redraws anything for a while."""
        before = len(self.raw)
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if not self._read(0.1):
                return False
        return len(self.raw) == before

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._fd)[3] & termios.ECHO)

    def screen(self) -> Screen:
        """What a person sees."""
        screen = Screen(self.columns)
        screen.feed(self.raw)
        return screen

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if not ready:
            return True
        try:
            got = os.read(self._fd, 65536)
        except OSError:  # Linux says EIO where the other side is closed
            return False
        self._bytes += got
        self.raw = self._bytes.decode(errors="replace")
        return bool(got)
