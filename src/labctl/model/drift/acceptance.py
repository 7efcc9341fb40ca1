"""`drift.yaml`: what is let be on purpose, by whom, why and until when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from labctl.model.drift.finding import Finding
from labctl.model.labfile import load_yaml, validated

DRIFT_FILE = "drift.yaml"
"""Beside `lab.yaml`."""
Text = Annotated[str, Field(min_length=1, max_length=500)]


class Acceptance(BaseModel):
    """One entry of `drift.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text = Field(description="address or id, or a pattern with * and ?; `STACK:ADDRESS` for one stack's")
    attribute: str = Field("", description="path or pattern of the only attribute that may differ; all of them without")
    reason: Text = Field(description="why it may be so")
    owner: str = Field("", description="who answers for it")
    until: date = Field(description="last day on which it may be so")

    @field_validator("until", mode="before")
    @classmethod
    def _is_a_day(cls, value: object) -> object:
        """Refuses a number, which pydantic would take for seconds since 1970."""
        if isinstance(value, date | str):
            return value
        raise ValueError(f"found {value!r}, allowed: a day as 2026-12-31")

    def covers(self, finding: Finding) -> bool:
        """Whether the entry is about the finding, and about all of its attributes."""
        names = known_as(finding.stack or finding.area, finding.id)
        if not any(_fits(name, self.id) for name in names):
            return False
        if not self.attribute:
            return True
        return bool(finding.changes) and all(_fits(change.path, self.attribute) for change in finding.changes)

    def expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return today > self.until


def _fits(name: str, pattern: str) -> bool:
    """Whether the pattern fits. Brackets stand for themselves: addresses and paths have some."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def known_as(place: str, name: str) -> tuple[str, str]:
    """The two names by which an entry may be about a finding.

    Args:
        place: The stack, or else the area, that it was found in.
        name: Its id.
    """
    return name, f"{place}:{name}"


class DriftFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accept: tuple[Acceptance, ...] = ()

    @field_validator("accept", mode="before")
    @classmethod
    def _may_be_empty(cls, value: object) -> object:
        """Takes a key with nothing behind it, as it is left when the last entry is taken out."""
        return () if value is None else value


def parse_drift_file(text: str, filename: str = DRIFT_FILE) -> DriftFile:
    """What `text` lets be; nothing where it is empty.

    Raises:
        UserError: It is not YAML, or not as it must be; the message names the file, the line, what was found and what is allowed.
    """
    document = load_yaml(text, filename)
    return DriftFile() if document is None else validated(DriftFile, document, filename)


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding with the entry that lets it be, or one that did until it ran out."""

    finding: Finding
    accepted: Acceptance | None = None
    expired: Acceptance | None = None


def hold_against(
    findings: Iterable[Finding], entries: tuple[Acceptance, ...], today: date
) -> tuple[tuple[Judged, ...], tuple[Acceptance, ...]]:
    """Each finding with its entry, and the entries that are about nothing.

    Args:
        findings: All findings of a check.
        entries: Of `drift.yaml`, in its order; the first one that covers a finding and has not run out counts.
        today: The day of the check (UTC).
    """
    judged, used = [], set()
    for finding in findings:
        covering = [index for index, entry in enumerate(entries) if entry.covers(finding)]
        used.update(covering)
        valid = next((entries[i] for i in covering if not entries[i].expired(today)), None)
        over = next((entries[i] for i in covering if entries[i].expired(today)), None) if valid is None else None
        judged.append(Judged(finding, valid, over))
    return tuple(judged), tuple(entry for index, entry in enumerate(entries) if index not in used)
