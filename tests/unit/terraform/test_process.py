"""A process and its end, with shell scripts in Terraform's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from labctl.adapters.terraform.process import Child
from labctl.adapters.terraform.records import ChildRecord, dead_children, forget_dead, running_child, start_ticks, write_records

ENV = {"PATH": os.defpath}


def _child(tmp_path: Path, script: str, record: Path | None = None) -> Child:
    return Child(["/bin/sh", "-c", script], cwd=tmp_path, env=ENV, record=record, command="apply")


def _until(condition: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_lines_come_while_it_runs_and_the_end_is_whole(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []
    child = _child(
        tmp_path, "echo one; touch first; while [ ! -e go ]; do sleep 0.02; done; printf 'two\\nthree'; echo bad >&2; exit 2"
    )

    def sink(line: str) -> None:
        seen.append((line, (tmp_path / "go").exists()))
        (tmp_path / "go").touch()

    ended = child.wait(sink)
    assert seen == [("one", False), ("two", True), ("three", True)]
    assert (ended.exit_code, ended.stdout, ended.stderr) == (2, "one\ntwo\nthree", "bad\n")
    assert ended.seconds > 0


def test_more_output_than_a_pipe_holds(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = _child(tmp_path, "i=0; while [ $i -lt 40000 ]; do echo line-$i; echo err-$i >&2; i=$((i+1)); done").wait(lines.append)
    assert lines == [f"line-{number}" for number in range(40000)]
    assert ended.stdout.count("\n") == ended.stderr.count("\n") == 40000


def test_its_environment_is_what_was_given(tmp_path: Path) -> None:
    assert "LABCTL" not in Child(["/usr/bin/env"], cwd=tmp_path, env={"ONE": "1"}).wait().stdout
    assert Child(["/usr/bin/env"], cwd=tmp_path, env={"ONE": "1"}).wait().stdout == "ONE=1\n"


def test_it_has_a_session_of_its_own_and_writes_for_its_owner_only(tmp_path: Path) -> None:
    child = _child(tmp_path, "touch made; cat /proc/self/stat")
    ended = child.wait()
    assert int(ended.stdout.rpartition(")")[2].split()[3]) == child.pid
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


TRAP = "trap 'echo stopping' INT; echo ready; i=0; while [ $i -lt 200 ]; do sleep 0.02; i=$((i+1)); [ -e done ] && exit 5; done"


def test_an_interrupt_lets_it_finish(tmp_path: Path) -> None:
    seen: list[str] = []
    child = _child(tmp_path, TRAP)

    def sink(line: str) -> None:
        seen.append(line)
        if line == "ready":
            assert child.interrupt()
        else:
            (tmp_path / "done").touch()

    assert child.wait(sink).exit_code == 5
    assert seen == ["ready", "stopping"]
    assert not child.interrupted
    assert not child.interrupt()


def test_ctrl_c_reaches_labctl_only_and_is_passed_on(tmp_path: Path) -> None:
    child = _child(tmp_path, TRAP)
    seen: list[str] = []

    def sink(line: str) -> None:
        seen.append(line)
        if line == "ready":
            threading.Thread(target=signal.pthread_kill, args=(threading.main_thread().ident, signal.SIGINT)).start()
        else:
            (tmp_path / "done").touch()

    assert child.wait(sink).exit_code == 5
    assert child.interrupted
    assert seen == ["ready", "stopping"]


def test_a_sink_that_fails_does_not_leave_it_running(tmp_path: Path) -> None:
    record = tmp_path / "terraform.pid"
    child = _child(tmp_path, "trap 'exit 1' INT; echo one; while :; do sleep 0.02; done", record)

    def sink(_line: str) -> None:
        raise BrokenPipeError("the reader went away")

    with pytest.raises(BrokenPipeError):
        child.wait(sink)
    assert not Path(f"/proc/{child.pid}").exists()
    assert not record.exists()


def test_a_signal_is_a_negative_exit_code(tmp_path: Path) -> None:
    assert _child(tmp_path, "kill -9 $$").wait().exit_code == -9


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ("exit 0", False),
        ("exit 1", False),
        ("kill -9 $$", True),
        ("echo 'Two interrupts received. Exiting immediately.' >&2; exit 1", True),
        ("""echo '{"@message":"Two interrupts received. Exiting immediately."}'; exit 1""", True),
    ],
)
def test_the_record_stays_of_one_that_was_killed_under_a_living_labctl(tmp_path: Path, script: str, kept: bool) -> None:
    """It may have left a lock, which the next run takes back by this record."""
    record = tmp_path / "terraform.pid"
    child = _child(tmp_path, script, record)
    child.wait()
    assert [one.pid for one in dead_children(record)] == ([child.pid] if kept else [])


def test_its_pid_is_on_record_while_it_runs(tmp_path: Path) -> None:
    record = tmp_path / "terraform.pid"
    child = _child(tmp_path, "while [ ! -e go ]; do sleep 0.02; done", record)
    found = running_child(record)
    assert found is not None
    assert (found.pid, found.command) == (child.pid, "apply")
    (tmp_path / "go").touch()
    child.wait()
    assert running_child(record) is None
    assert not record.exists()


def test_a_record_of_another_process_or_nonsense_is_nobody(tmp_path: Path) -> None:
    record = tmp_path / "terraform.pid"
    write_records(record, (ChildRecord(os.getpid(), 1, "apply", ""),))
    assert running_child(record) is None
    for text in ("", "[]", "{}", "[1]", '[{"pid": "x"}]'):
        record.write_text(text)
        assert running_child(record) is None
        assert dead_children(record) == ()
    assert running_child(tmp_path / "absent") is None


DEAD = ChildRecord(2**22 + 1, 7, "apply", "2026-03-01 12:00:00 UTC")


def test_those_that_were_killed_are_remembered_through_later_runs(tmp_path: Path) -> None:
    """The lock that the first one left is still there, however many are killed after it."""
    record = tmp_path / "terraform.pid"
    alive = ChildRecord(os.getpid(), start_ticks(os.getpid()), "plan", "2026-03-01 12:01:00 UTC")
    write_records(record, (DEAD, alive))
    assert dead_children(record) == (DEAD,)
    assert running_child(record) == alive
    _child(tmp_path, "true", record).wait()
    assert dead_children(record) == (DEAD,)
    forget_dead(record)
    assert dead_children(record) == ()
    assert running_child(record) == alive


def test_one_whose_pid_nobody_could_write_down_is_found(tmp_path: Path) -> None:
    """Labctl was killed between the start and the record."""
    record = tmp_path / "terraform.pid"
    write_records(record, (ChildRecord(0, 0, "apply", "2026-03-01 12:00:00 UTC"),))
    assert running_child(record) is None
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "apply"], cwd=tmp_path, start_new_session=True)
    try:
        # Right after its start a process has no command line yet.
        _until(lambda: running_child(record) is not None)
        found = running_child(record)
        assert found is not None
        assert found.pid == other.pid
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait()
    # Its own child, if it had just forked one, takes a moment longer.
    _until(lambda: running_child(record) is None)
    assert [one.command for one in dead_children(record)] == ["apply"]


KILLED = """
import os, sys
from pathlib import Path
from labctl.adapters.terraform.process import Child
child = Child(["/bin/sh", "-c", sys.argv[1]], cwd=Path(sys.argv[2]), env={"PATH": os.defpath},
              record=Path(sys.argv[2]) / "terraform.pid", command="apply")
child.wait(lambda line: Path(sys.argv[2], "seen").touch())
"""


def test_it_finishes_its_work_when_labctl_is_killed(tmp_path: Path) -> None:
    script = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo more; echo more >&2; touch finished; sleep 0.2"
    labctl = subprocess.Popen([sys.executable, "-c", KILLED, script, str(tmp_path)])
    _until((tmp_path / "seen").exists)
    labctl.kill()
    labctl.wait()
    left = running_child(tmp_path / "terraform.pid")
    assert left is not None
    (tmp_path / "go").touch()
    _until((tmp_path / "finished").exists)
    _until(lambda: running_child(tmp_path / "terraform.pid") is None)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        _child(tmp_path, "true").wait()
    with pytest.raises(OSError, match="nowhere"):
        Child(["/nowhere/terraform"], cwd=tmp_path, env=ENV)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
