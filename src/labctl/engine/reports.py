"""The report of a run in its folder: for programs, for people and for a CI."""

from __future__ import annotations

import json
import os
from pathlib import Path

from labctl.engine.paths import cannot_write
from labctl.model.report import RunReport, as_document, from_document
from labctl.model.reportformats import as_junit, as_markdown

DOCUMENT, MARKDOWN, JUNIT = "report.json", "report.md", "report.xml"


def write_reports(folder: Path, report: RunReport) -> None:
    """Writes `report.md`, `report.xml` and, last, `report.json` into the run's folder; each is there whole or not at all.

    Raises:
        UserError: The disk is full.
    """
    for name, text in (
        (MARKDOWN, as_markdown(report)),
        (JUNIT, as_junit(report)),
        (DOCUMENT, json.dumps(as_document(report), indent=2) + "\n"),
    ):
        try:
            _write(folder / name, text)
        except OSError as error:
            raise cannot_write(folder, error) from error


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read_report(folder: Path) -> RunReport | None:
    """The report in a run's folder; None where there is none that this labctl can read."""
    try:
        return from_document(json.loads((folder / DOCUMENT).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
