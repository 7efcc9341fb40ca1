"""`.labctl/<lab>/drift/`: what the last check left (`memory.json`), and one JSON report a check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labctl.engine.paths import LabPaths, cannot_write, replace_file
from labctl.model.drift import DriftReport
from labctl.model.drift.formats.json import as_json
from labctl.model.drift.memory import Remembered, remembered
from labctl.model.drift.summary import RunSummary

MEMORY = "memory.json"
SCHEMA = 1
KEEP_REPORTS = 90
"""A quarter of a year of nights."""
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier checks left; `warnings` says what of it cannot be read."""

    file: Path
    found: Mapping[str, Remembered]
    warnings: tuple[str, ...] = ()

    def keep(self, found: Mapping[str, Remembered]) -> None:
        """Writes down what the next check is to know, whole or not at all.

        Raises:
            UserError: It cannot be written.
        """
        document = {"schema": SCHEMA, "findings": [one.as_dict() for one in found.values()]}
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self.file, json.dumps(document, indent=1) + "\n")
        except OSError as error:
            raise cannot_write(self.file, error) from error


def load_memory(paths: LabPaths) -> Memory:
    """What earlier checks left; nothing where there was none, or where it is damaged: then all that is found is new."""
    file = paths.drift / MEMORY
    try:
        return Memory(file, remembered(json.loads(file.read_text(encoding="utf-8"))["findings"]))
    except FileNotFoundError:
        return Memory(file, {})
    except (OSError, ValueError, KeyError, TypeError):
        return Memory(file, {}, (f"{file.name} of earlier checks cannot be read: everything that is found counts as new",))


def save_check(paths: LabPaths, report: DriftReport) -> DriftReport:
    """Keeps the report, and removes the oldest; the report says it where that fails."""
    file = paths.drift / f"{report.at.astimezone(UTC).strftime(_STAMP)}.json"
    try:
        paths.drift.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(file, as_json(report))
        for old in reports(paths)[KEEP_REPORTS:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        return report.with_warning(f"the report was not kept: {cannot_write(file, error)}")
    return report


def reports(paths: LabPaths) -> list[Path]:
    """The reports that are kept, the newest first."""
    return sorted((file for file in paths.drift.glob("*Z.json") if _is_stamp(file.stem)), reverse=True)


def last_report(paths: LabPaths) -> dict[str, Any] | None:
    """The newest report that can be read, None without one."""
    for file in reports(paths):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return None


def summaries(paths: LabPaths) -> list[RunSummary]:
    """What the kept reports come to, the oldest first; those that cannot be read are left out."""
    found = []
    for file in reversed(reports(paths)):
        with suppress(OSError, ValueError):
            found.append(RunSummary.from_document(json.loads(file.read_text(encoding="utf-8"))))
    return found


def _is_stamp(text: str) -> bool:
    try:
        datetime.strptime(text, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
