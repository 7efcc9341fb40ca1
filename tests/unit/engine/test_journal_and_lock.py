"""The journal and the lock of a lab."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from labctl.engine.events import Event
from labctl.engine.interrupt import Interrupted, Interrupts
from labctl.engine.journal import KEEP_RUNS, Journal, lab_lock
from labctl.engine.paths import LabPaths, private_files
from labctl.model.errors import UserError


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


def test_old_runs_are_pruned(paths: LabPaths) -> None:
    for index in range(KEEP_RUNS + 5):
        (paths.runs / f"2000010{index:03}").mkdir()
    Journal(paths, "up").close()
    assert len(list(paths.runs.iterdir())) == KEEP_RUNS


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
        journal.write(Event("stage", "planning"))
    lines = (journal.folder / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["run", "stage", "warning"]
