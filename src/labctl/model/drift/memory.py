"""What earlier checks found, so that a report can begin with what is new since last night."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labctl.model.drift.acceptance import Judged
from labctl.model.drift.finding import Finding
from labctl.model.drift.report import Entry


@dataclass(frozen=True, slots=True)
class Remembered:
    """A finding as earlier checks left it.

    Attributes:
        place: The stack, else the area, where it was found: only who looked there can say that it is gone.
        first_seen: When it was found first (UTC).
        seen: By how many checks in a row.
    """

    fingerprint: str
    place: str
    id: str
    text: str
    first_seen: datetime
    seen: int

    def as_dict(self) -> dict[str, Any]:
        """As the history keeps it."""
        return {
            "fingerprint": self.fingerprint,
            "place": self.place,
            "id": self.id,
            "text": self.text,
            "first_seen": self.first_seen.isoformat(),
            "seen": self.seen,
        }


def place(finding: Finding) -> str:
    """Who can say that the finding is gone."""
    return finding.stack if finding.area == "terraform" else finding.area


def remember(
    judged: Iterable[Judged], before: Mapping[str, Remembered], at: datetime, looked: Collection[str]
) -> tuple[tuple[Entry, ...], tuple[Remembered, ...], dict[str, Remembered]]:
    """The findings with their history, what is gone since, and what to keep for the next check.

    Args:
        judged: What this check found.
        before: What the one before left, by fingerprint.
        at: When this check began (UTC).
        looked: The stacks and areas that could be looked at: what was found elsewhere is neither gone nor new.
    """
    entries, kept = [], {}
    for one in judged:
        key = one.finding.fingerprint
        old = before.get(key)
        first, seen = (old.first_seen, old.seen + 1) if old else (at, 1)
        entries.append(Entry(one.finding, first, seen, old is None, one.accepted, one.expired))
        kept[key] = Remembered(key, place(one.finding), one.finding.id, one.finding.text, first, seen)
    missed = [old for key, old in before.items() if key not in kept]
    gone = tuple(old for old in missed if old.place in looked)
    kept |= {old.fingerprint: old for old in missed if old.place not in looked}
    return tuple(entries), gone, kept


def remembered(rows: Iterable[Mapping[str, Any]]) -> dict[str, Remembered]:
    """What the history keeps, read back, by fingerprint."""
    found = (
        Remembered(
            str(row["fingerprint"]),
            str(row["place"]),
            str(row["id"]),
            str(row["text"]),
            datetime.fromisoformat(row["first_seen"]),
            int(row["seen"]),
        )
        for row in rows
    )
    return {one.fingerprint: one for one in found}
