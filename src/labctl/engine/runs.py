"""The runs that are kept: read from their reports, or from their journals where there is none. Takes no lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from labctl.engine.journal import EVENTS, events_of, holder
from labctl.engine.paths import RunPaths
from labctl.engine.reports import DOCUMENT, read_report
from labctl.model.errors import UserError, nearest
from labctl.model.journalreport import report_of
from labctl.model.report import CUT_OFF, RUNNING, RunReport

_NAMED = 4
"""How many of the newest runs an error names; the others are listed by the command."""


def run_ids(paths: RunPaths) -> tuple[str, ...]:
    """The ids of the kept runs, the newest first."""
    if not paths.runs.is_dir():
        return ()
    folders = (folder for folder in paths.runs.iterdir() if (folder / EVENTS).is_file() or (folder / DOCUMENT).is_file())
    return tuple(sorted((folder.name for folder in folders), reverse=True))


def kept_runs(paths: RunPaths) -> tuple[RunReport, ...]:
    """What each kept run came to, the newest first."""
    return tuple(_read(paths, run_id) for run_id in run_ids(paths))


def find_run(paths: RunPaths, wanted: str) -> RunReport:
    """One run, by its id, the beginning of it, or the letters at its end.

    Raises:
        UserError: No kept run is meant, or several are.
    """
    ids = run_ids(paths)
    if not ids:
        raise UserError(f"lab {paths.name!r} has no run yet", hint="`labctl up` and `labctl plan` are runs.")
    hits = [run_id for run_id in ids if run_id == wanted] or [
        run_id for run_id in ids if wanted and (run_id.startswith(wanted) or run_id.endswith(f"-{wanted}"))
    ]
    if len(hits) == 1:
        return _read(paths, hits[0])
    if hits:
        named = f"{', '.join(hits[:_NAMED])}{' …' if len(hits) > _NAMED else ''}"
        raise UserError(f"{wanted!r} is the beginning of {len(hits)} runs", hint=f"Write more of it: {named}")
    offered = dict.fromkeys([*get_close_matches(wanted, ids, n=1, cutoff=0.5), *ids[:_NAMED]])
    raise UserError(f"no run {wanted!r} is kept", hint=f"{nearest(wanted, offered)} `labctl runs` lists all {len(ids)}.")


def _read(paths: RunPaths, run_id: str) -> RunReport:
    folder = paths.runs / run_id
    return read_report(folder) or _from_journal(paths, folder)


def _from_journal(paths: RunPaths, folder: Path) -> RunReport:
    events = events_of(folder)
    running = _runs(paths, events)
    try:
        report = report_of(folder.name, paths.name, events, running=running)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Written by nobody, or by a labctl that this one does not understand: the run is listed all the same.
        return RunReport(folder.name, "?", paths.name, CUT_OFF, "", 0.0, (), error="its journal cannot be read")
    if report.result != RUNNING:
        return report
    return replace(report, seconds=max(0.0, (datetime.now(UTC) - datetime.fromisoformat(report.began)).total_seconds()))


def _runs(paths: RunPaths, events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the process that writes this journal holds the lab."""
    pid = events[0].get("pid") if events else None
    return pid is not None and holder(paths) == pid
