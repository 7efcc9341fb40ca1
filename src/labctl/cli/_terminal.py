"""Small things about the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import termios
from typing import TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
PIPE_WIDTH = 120


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at this stream, on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def can_ask() -> bool:
    """Whether there is somebody to ask. A dumb terminal can be asked too."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def print_whole(text: str, stream: TextIO | None = None) -> None:
    """Prints lines in one piece: an unbuffered stream gets a line's end by itself, and the lines of two threads run together."""
    print(f"{text}\n", end="", flush=True, file=stream)


def forget_typed() -> None:
    """Drops what was typed before a question was on the screen: it cannot have been meant as its answer."""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)


class Echo:
    """Whether the terminal shows what is typed. Off while something is redrawn: a `^C` in it would move the lines."""

    def __init__(self) -> None:
        self._mode: int | None = None

    def off(self) -> None:
        """Turns it off where there is a keyboard."""
        if not sys.stdin.isatty():
            return
        settings = termios.tcgetattr(sys.stdin)
        self._mode = settings[3]
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)

    def back(self) -> None:
        """Puts it back as it was."""
        if self._mode is not None:
            settings = termios.tcgetattr(sys.stdin)
            settings[3] = self._mode
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
            self._mode = None


def colour(text: str, name: str, stream: TextIO) -> str:
    """`text` in a colour where the stream is a terminal and NO_COLOR is not set."""
    if not name or not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{_CODES[name]}m{text}\033[0m"


def width() -> int:
    """Columns to keep to: the terminal's, and a fixed number in a pipe, where a line is nobody's to wrap."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH


def cut(text: str, columns: int) -> str:
    """`text` in at most so many columns, its end marked where something is left out."""
    return text if len(text) <= columns else text[: max(0, columns - 1)] + "…"
