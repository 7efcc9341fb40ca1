"""Differences that are known and right, each with its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.referee.replay import Difference

ALLOWED = Path(__file__).parent / "allow.json"


@dataclass(frozen=True)
class Allowed:
    """A difference that is no defect of the sandbox; the first three are regular expressions on the whole text.

    Attributes:
        method: Method of the request.
        path: Its path, in words.
        difference: What differs.
        reason: Why that is right.
    """

    method: str
    path: str
    difference: str
    reason: str

    def covers(self, found: Difference) -> bool:
        """Whether a difference is this one."""
        pairs = ((self.method, found.method), (self.path, found.path), (self.difference, found.text))
        return all(re.fullmatch(pattern, text) for pattern, text in pairs)


@dataclass(frozen=True)
class Verdict:
    """What a comparison comes to.

    Attributes:
        unexpected: Differences that nothing allows.
        unused: Entries of the list that nothing needed.
    """

    unexpected: tuple[Difference, ...]
    unused: tuple[Allowed, ...]

    def __str__(self) -> str:
        lines = [f"not allowed: {difference}" for difference in self.unexpected]
        return "\n".join(
            [*lines, *(f"allowed for nothing: {entry.method} {entry.path} | {entry.difference}" for entry in self.unused)]
        )


def read_allowed(file: Path = ALLOWED) -> list[Allowed]:
    """The list; an entry without a reason is a mistake."""
    entries = [Allowed(**raw) for raw in json.loads(file.read_text())]
    without = [entry for entry in entries if len(entry.reason) < 10]
    assert not without, f"entries without a reason: {without}"
    return entries


def judge(found: Iterable[Difference], allowed: Iterable[Allowed]) -> Verdict:
    """Hold differences against the list."""
    entries, differences = list(allowed), list(found)
    unexpected = tuple(one for one in differences if not any(entry.covers(one) for entry in entries))
    unused = tuple(entry for entry in entries if not any(entry.covers(one) for one in differences))
    return Verdict(unexpected, unused)
