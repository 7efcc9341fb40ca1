"""The journal and the lock of a lab."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from labctl.engine.events import Event
from labctl.engine.interrupt import Interrupted, Interrupts
from labctl.engine.journal import Journal, lab_lock
from labctl.engine.paths import LabPaths, private_files
from labctl.model.errors import UserError
from labctl.model.report import KEEP_RUNS


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    found = LabPaths(tmp_path / "lab.yaml", "lab")
    found.create()
    return found


def test_folders_are_private(paths: LabPaths) -> None:
    for folder in (paths.root, paths.keys, paths.state, paths.runs):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_journal_holds_every_event_in_order(paths: LabPaths) -> None:
    journal = Journal(paths, "up")
    journal.write(Event("stage", "plan", fields={"seconds": 1.5}))
    journal.close()
    lines = [json.loads(line) for line in (journal.folder / "events.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["run", "stage"]
    assert lines[0]["command"] == "up"
    assert lines[0]["pid"] == os.getpid()
    assert lines[1]["seconds"] == 1.5


@pytest.mark.parametrize("keep", [1, 3])
def test_the_oldest_runs_are_removed(paths: LabPaths, keep: int) -> None:
    for index in range(5):
        (paths.runs / f"2000010{index}").mkdir()
    journal = Journal(paths, "up", keep=keep)
    journal.close()
    kept = ["20000102", "20000103", "20000104", journal.run_id]
    assert sorted(folder.name for folder in paths.runs.iterdir()) == kept[-keep:]


def earlier_run(paths: LabPaths, run_id: str, *stages: str) -> None:
    (paths.runs / run_id).mkdir()
    events = [{"type": "stack", "stack": "platform", "stage": stage, "creates": ["vm.a"]} for stage in stages]
    (paths.runs / run_id / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_a_run_that_was_cut_off_is_kept_until_a_later_one_has_mended_it(paths: LabPaths) -> None:
    """Its journal is the proof that a guest that no state knows is the lab's own."""
    earlier_run(paths, "20000100", "applying", "applied")
    earlier_run(paths, "20000101", "applying")
    earlier_run(paths, "20000102", "planning")
    first = Journal(paths, "plan", keep=1)
    first.close()
    assert sorted(folder.name for folder in paths.runs.iterdir()) == ["20000101", first.run_id]
    earlier_run(paths, "20000103", "applying", "applied")
    last = Journal(paths, "plan", keep=1)
    last.close()
    assert [folder.name for folder in paths.runs.iterdir()] == [last.run_id]


def test_no_run_is_kept_for_ever(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.engine.journal.MOST_RUNS", 3)
    for index in range(5):
        earlier_run(paths, f"2000010{index}", "applying")
    Journal(paths, "plan", keep=1).close()
    assert len(list(paths.runs.iterdir())) == 3


def test_a_run_that_was_cut_off_in_an_apply_is_kept_until_its_stack_came_to_a_good_end(paths: LabPaths) -> None:
    """Plans are made every night, and what the cut-off run was making is known from its log alone."""
    journal = Journal(paths, "up")
    journal.write(Event("stack", "applying", "platform", {"stage": "applying", "creates": ["a.b"]}))
    journal.close()
    killed = journal.folder.rename(paths.runs / "20000000-killed")
    for index in range(KEEP_RUNS + 5):
        (paths.runs / f"2000010{index:03}").mkdir()
    Journal(paths, "plan").close()
    assert killed.is_dir()
    journal = Journal(paths, "up")
    journal.write(Event("stack", "applied", "platform", {"stage": "applied"}))
    journal.close()
    Journal(paths, "plan").close()
    assert not killed.exists()


def test_later_runs_have_later_ids_however_fast_they_follow(paths: LabPaths) -> None:
    (paths.runs / "not-a-run").mkdir()
    ids = []
    for _ in range(KEEP_RUNS):
        journal = Journal(paths, "plan")
        journal.close()
        ids.append(journal.run_id)
    assert ids == sorted(set(ids))


def test_a_clock_that_was_set_back_does_not_mix_up_the_runs(paths: LabPaths) -> None:
    (paths.runs / "29991231T235959Z-ffff").mkdir()
    for expected in ("30000101T000000Z-0000", "30000101T000000Z-0001"):
        journal = Journal(paths, "plan")
        journal.close()
        assert journal.run_id == expected


LEFT = ("platform.tfplan", "platform.probe", "foundation.recovered.tfstate", "scratch/platform/terraform.tfstate")


def _leave(folder: Path) -> None:
    for name in LEFT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("values")


def test_what_a_run_kept_besides_its_log_ends_with_it_and_that_of_a_killed_one_with_the_next(paths: LabPaths) -> None:
    killed = paths.runs / "20000101T000000Z-dead"
    _leave(killed)
    (killed / "events.jsonl").write_text("{}\n")
    journal = Journal(paths, "up")
    assert [path.name for path in killed.iterdir()] == ["events.jsonl"]
    _leave(journal.folder)
    journal.close()
    assert [path.name for path in journal.folder.iterdir()] == ["events.jsonl"]


def test_reports_and_plans_that_were_asked_for_are_kept(paths: LabPaths) -> None:
    first = Journal(paths, "plan")
    kept = {"events.jsonl", "plan.json", "platform.saved-plan", "report.json", "report.md", "report.xml"}
    for name in kept - {"events.jsonl"} | {"platform.tfplan"}:
        (first.folder / name).touch()
    first.close()
    Journal(paths, "up").close()
    assert {path.name for path in first.folder.iterdir()} == kept


def test_a_folder_that_others_may_read_is_closed(tmp_path: Path) -> None:
    found = LabPaths(tmp_path / "lab.yaml", "lab")
    found.root.mkdir(parents=True)
    for folder in (found.root.parent, found.root):
        folder.chmod(0o755)
    found.create()
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (found.root.parent, found.root)} == {0o700}


def test_files_of_a_run_are_private_whatever_makes_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with private_files():
            (tmp_path / "inside").write_text("")
        (tmp_path / "after").write_text("")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "inside").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "after").stat().st_mode) == 0o644


def test_a_full_disk_is_one_sentence(paths: LabPaths) -> None:
    journal = Journal(paths, "up")
    journal._file = open("/dev/full", "w")  # noqa: SIM115, PTH123
    with pytest.raises(UserError, match="no space left") as caught:
        journal.write(Event("stage", "plan"))
    assert "Free some space" in caught.value.hint


def _hold(paths: LabPaths, ready: object, go: object) -> None:
    with lab_lock(paths, "up"):
        ready.set()  # type: ignore[attr-defined]
        go.wait(30)  # type: ignore[attr-defined]


def test_a_second_run_says_who_runs_and_a_killed_run_leaves_no_lock(paths: LabPaths) -> None:
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(paths, ready, go))
    first.start()
    assert ready.wait(30)
    with pytest.raises(UserError, match=rf"labctl up \(process {first.pid}, since 2"), lab_lock(paths, "down"):
        pass
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join(30)
    with lab_lock(paths, "down"):
        pass


def test_a_run_that_may_wait_takes_its_turn(paths: LabPaths) -> None:
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(paths, ready, go))
    first.start()
    assert ready.wait(30)
    with pytest.raises(UserError, match="in use by labctl up"), lab_lock(paths, "provision bucket", patience_s=0.3):
        pass
    threading.Timer(0.3, go.set).start()
    with lab_lock(paths, "provision bucket", patience_s=30):
        pass
    first.join(30)
    assert first.exitcode == 0


def test_the_first_signal_tells_those_who_run_and_stops_before_the_next_stage() -> None:
    said: list[str] = []
    told: list[int] = []
    interrupts = Interrupts(said.append)
    with interrupts.installed(), interrupts.telling(lambda: told.append(1)):
        interrupts.check()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        limit = time.monotonic() + 30
        while len(said) < 2 and time.monotonic() < limit:
            time.sleep(0.01)
    assert told == [1, 1]
    assert len(said) == 2
    with pytest.raises(Interrupted):
        interrupts.check()


def test_a_signal_in_the_middle_of_a_line_of_the_journal_is_told(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal holds its lock then: a handler that wrote to it by itself would wait for itself for ever."""
    journal = Journal(paths, "up")
    interrupts = Interrupts(lambda text: journal.write(Event("warning", text)))
    real = os.fsync

    def interrupted(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        os.kill(os.getpid(), signal.SIGINT)
        real(descriptor)

    with interrupts.installed():
        monkeypatch.setattr(os, "fsync", interrupted)
        journal.write(Event("report"))
    lines = (journal.folder / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["run", "report", "warning"]


def test_the_disk_is_waited_for_where_a_later_run_goes_by_the_journal(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[str] = []
    journal = Journal(paths, "up")
    monkeypatch.setattr(os, "fsync", lambda _descriptor: forced.append(journal.folder.joinpath("events.jsonl").read_text()))
    silent = [Event("stage", "planning"), Event("stack", "planning", "net", {"stage": "planning"}), Event("note", "as it was")]
    loud = [
        Event("plan"),
        Event("stack", "applying", "net", {"stage": "applying", "creates": ["a.b"]}),
        Event("stack", "applied", "net", {"stage": "applied"}),
        Event("stage", "applying"),
        Event("report"),
    ]
    for event in silent:
        journal.write(event)
    assert forced == []
    for number, event in enumerate(loud, start=1):
        journal.write(event)
        assert len(forced) == number
        assert json.loads(forced[-1].splitlines()[-1])["type"] == event.type, "forced before it was written"
    journal.write(Event("stack", "planning", "apps", {"stage": "planning"}))
    journal.write(Event("resource", "a.b: still creating", "net"))
    assert len(forced) == len(loud), "another stack is only planned, and a resource's progress is for people"
