"""One family of errors. Each says what happened, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LabError(Exception):
    """Anything labctl stops for.

    Args:
        message: One sentence: what is wrong, and where.
        hint: What to do next: a command, a setting, a place to look. May be empty.
        where: The stack, guest, file or address that it is about. May be empty.
    """

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    @property
    def told(self) -> str:
        """All of it as running text, for a report."""
        return sentences(str(self), self.hint)


class UserError(LabError):
    """Something the user wrote or chose: they can mend it."""


class AdapterError(LabError):
    """A system that labctl talks to failed or answered something unusable."""


def sentences(*parts: str) -> str:
    """Parts as sentences one after the other: a message seldom has its full stop."""
    kept = [part.strip() for part in parts if part.strip()]
    return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in kept)


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that lists the known names and the nearest one, for an error about an unknown name."""
    names = sorted(known)
    listed = ", ".join(names) if names else "none"
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}? Known: {listed}." if close else f"Known: {listed}."
