"""The runs that are kept."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labctl.engine.events import Event
from labctl.engine.journal import Journal, holder, lab_lock
from labctl.engine.lab import OpenLab, open_lab
from labctl.engine.paths import LabPaths
from labctl.engine.reports import write_reports
from labctl.engine.runs import find_run, kept_runs, run_ids
from labctl.model.errors import UserError
from labctl.model.report import RunReport


@pytest.fixture
def lab(tmp_path: Path) -> OpenLab:
    (tmp_path / "lab.yaml").write_text("name: lab\ntarget: {sandbox: {guests: appliance}}\n")
    found = open_lab(tmp_path / "lab.yaml")
    found.paths.create()
    return found


def journal(lab: OpenLab, run_id: str, *more: dict[str, object], pid: int = 0) -> Path:
    folder = lab.paths.runs / run_id
    folder.mkdir()
    now = datetime.now(UTC).isoformat()
    events = [{"type": "run", "command": "up", "pid": pid}, *more]
    (folder / "events.jsonl").write_text("".join(json.dumps({"time": now, **event}) + "\n" for event in events))
    return folder


def test_a_lab_without_runs_has_none(tmp_path: Path, lab: OpenLab) -> None:
    assert kept_runs(lab.paths) == ()
    never = OpenLab(lab.lab, LabPaths(tmp_path / "elsewhere" / "lab.yaml", "lab"))
    assert kept_runs(never.paths) == ()
    with pytest.raises(UserError, match="has no run yet"):
        find_run(never.paths, "2026")
    assert not never.paths.root.exists()


def test_the_report_is_read_where_there_is_one_else_the_journal(lab: OpenLab) -> None:
    journal(lab, "20260101T000000Z-aaaa", {"type": "report", "result": "failed", "stacks": [], "seconds": 1.0})
    folder = journal(lab, "20260102T000000Z-bbbb", {"type": "report", "result": "failed", "stacks": [], "seconds": 1.0})
    write_reports(folder, RunReport(folder.name, "down", "lab", "done", "2026-01-02T00:00:00+00:00", 9.0, ()))
    (lab.paths.runs / "notes").mkdir()
    assert [(run.id, run.command, run.result) for run in kept_runs(lab.paths)] == [
        ("20260102T000000Z-bbbb", "down", "done"),
        ("20260101T000000Z-aaaa", "up", "failed"),
    ]


def test_a_journal_that_nobody_can_read_is_listed(lab: OpenLab) -> None:
    for run_id, text in (("1", ""), ("2", "{}\n[]\nhalf a li"), ("3", '{"time": 3, "type": "report"}\n')):
        (lab.paths.runs / run_id).mkdir()
        (lab.paths.runs / run_id / "events.jsonl").write_text(text)
    assert [(run.id, run.result, run.error) for run in kept_runs(lab.paths)] == [
        (run_id, "cut off", "its journal cannot be read") for run_id in ("3", "2", "1")
    ]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("20260101T000000Z-aaaa", "20260101T000000Z-aaaa"),
        ("20260102", "20260102T000000Z-bbbb"),
        ("bbbb", "20260102T000000Z-bbbb"),
        ("20260101T000000Z", "20260101T000000Z"),
    ],
)
def test_a_run_is_found_by_any_part_that_only_it_has(lab: OpenLab, wanted: str, found: str) -> None:
    for run_id in ("20260101T000000Z-aaaa", "20260101T000000Z", "20260102T000000Z-bbbb"):
        journal(lab, run_id)
    assert find_run(lab.paths, wanted).id == found


def test_a_name_that_is_no_runs_or_several_is_refused(lab: OpenLab) -> None:
    for day in range(1, 8):
        journal(lab, f"2026010{day}T000000Z-aaa{day}")
    with pytest.raises(UserError, match="'2026' is the beginning of 7 runs") as several:
        find_run(lab.paths, "2026")
    assert several.value.hint.endswith("20260104T000000Z-aaa4 …")
    with pytest.raises(UserError, match="no run '20260101T000000Z-aab1' is kept") as unknown:
        find_run(lab.paths, "20260101T000000Z-aab1")
    assert "Did you mean '20260101T000000Z-aaa1'?" in unknown.value.hint
    assert "lists all 7" in unknown.value.hint
    with pytest.raises(UserError, match="no run '' is kept"):
        find_run(lab.paths, "")


def _hold(paths: LabPaths, ready: object, go: object) -> None:
    with lab_lock(paths, "up"):
        run = Journal(paths, "up")
        run.write(Event("stage", "planning"))
        ready.set()  # type: ignore[attr-defined]
        go.wait(30)  # type: ignore[attr-defined]


def test_a_run_goes_on_while_its_process_holds_the_lab_and_is_cut_off_after(lab: OpenLab) -> None:
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(lab.paths, ready, go))
    process.start()
    assert ready.wait(30)
    try:
        journal(lab, "20000101T000000Z-dead", pid=process.pid or 0)
        journal(lab, "20000101T000000Z-gone", pid=os.getpid())
        assert [run.result for run in kept_runs(lab.paths)] == ["running", "cut off", "running"]
        # Looking leaves the lock alone: it can be asked again, and the run still holds the lab.
        with pytest.raises(UserError, match="in use"), lab_lock(lab.paths, "down"):
            pass
    finally:
        process.kill()
        process.join(30)
    assert {run.result for run in kept_runs(lab.paths)} == {"cut off"}


def test_a_process_with_the_number_of_one_that_is_gone_holds_nothing(lab: OpenLab) -> None:
    lock = lab.paths.root / "run.lock"
    assert holder(lab.paths) is None
    for text in ("", "[]", '{"pid": "x"}', json.dumps({"pid": os.getpid()})):
        lock.write_text(text)
        assert holder(lab.paths) is None
    with lab_lock(lab.paths, "up"):
        assert holder(lab.paths) == os.getpid()


def test_ids_are_the_newest_first(lab: OpenLab) -> None:
    for run_id in ("20260102T000000Z-a", "20260103T000000Z-b", "20260101T000000Z-c"):
        journal(lab, run_id)
    assert run_ids(lab.paths) == ("20260103T000000Z-b", "20260102T000000Z-a", "20260101T000000Z-c")
