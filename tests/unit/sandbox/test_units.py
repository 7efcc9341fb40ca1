"""Units with real processes: conditions, restarts, ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.sandbox.guests import units
from labctl.sandbox.guests.files import GuestFiles
from labctl.sandbox.guests.processes import Children, start_time
from labctl.sandbox.guests.units import Service, ServiceUnit

SLEEP = ["/bin/sleep", "60"]


def unit_of(tmp_path: Path, command: list[str], needs: tuple[str, ...] = (), stop_grace_s: float = 2.0) -> ServiceUnit:
    files = GuestFiles(tmp_path / "disk", tmp_path / "run")
    files.make()
    service = Service("x.service", lambda: command, needs, "/var/lib/x", stop_grace_s)
    return ServiceUnit(service, files, Children(tmp_path / "children.json"))


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


def registered(tmp_path: Path) -> list[int]:
    return [entry["pid"] for entry in json.loads((tmp_path / "children.json").read_text())]


def test_a_unit_whose_condition_fails_stays_inactive_and_says_nothing(tmp_path: Path) -> None:
    unit = unit_of(tmp_path, SLEEP, needs=("/etc/cert",))
    assert asyncio.run(unit.start()) == ""
    assert unit.state == "inactive"


def test_start_and_stop_a_process_that_is_written_down(tmp_path: Path) -> None:
    async def life() -> int:
        unit = unit_of(tmp_path, SLEEP)
        assert await unit.start() == ""
        assert unit.state == "active"
        (pid,) = registered(tmp_path)
        await unit.stop()
        assert unit.state == "inactive"
        return pid

    pid = asyncio.run(life())
    assert start_time(pid) == ""
    assert registered(tmp_path) == []


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = [sys.executable, "-c", "import signal,time\nsignal.signal(15, signal.SIG_IGN)\nopen('ready','w')\ntime.sleep(60)"]

    async def life() -> float:
        unit = unit_of(tmp_path, stubborn, stop_grace_s=0.3)
        await unit.start()
        await until((tmp_path / "disk/var/lib/x/ready").exists)
        before = time.monotonic()
        await unit.stop()
        return time.monotonic() - before

    assert 0.25 < asyncio.run(life()) < 5


def test_a_process_that_dies_is_started_again_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "RESTART_DELAY_S", 0.01)

    async def life() -> None:
        unit = unit_of(tmp_path, SLEEP)
        await unit.start()
        (first,) = registered(tmp_path)
        os.kill(first, signal.SIGKILL)
        await until(lambda: unit.state == "active" and registered(tmp_path) not in ([], [first]))
        await unit.stop()
        failing = unit_of(tmp_path, ["/bin/false"])
        await failing.start()
        await until(lambda: failing.state == "failed")

    asyncio.run(life())


def test_a_clean_end_is_no_failure(tmp_path: Path) -> None:
    async def life() -> None:
        unit = unit_of(tmp_path, ["/bin/true"])
        await unit.start()
        await until(lambda: unit.state == "inactive")

    asyncio.run(life())


def test_a_program_that_is_not_there_fails_the_unit(tmp_path: Path) -> None:
    async def life() -> None:
        unit = unit_of(tmp_path, ["/nonexistent/program"])
        await unit.start()
        await until(lambda: unit.state == "failed")

    asyncio.run(life())


def test_children_get_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXMOX_VE_API_TOKEN", "leak")

    async def life() -> None:
        unit = unit_of(tmp_path, ["/usr/bin/env"])
        await unit.start()
        await until(lambda: unit.state == "inactive")

    asyncio.run(life())
    said = (tmp_path / "disk/var/log/x.service.log").read_text()
    assert "PATH=" in said
    assert "leak" not in said
    assert "SSL_CERT_FILE" not in said


def test_leftovers_are_ended_by_pid_and_start_time_only(tmp_path: Path) -> None:
    ours, other = (subprocess.Popen(SLEEP, start_new_session=True) for _ in range(2))
    try:
        entries = [{"pid": ours.pid, "started": start_time(ours.pid)}, {"pid": other.pid, "started": "1"}]
        (tmp_path / "children.json").write_text(json.dumps(entries))
        reaper = subprocess.Popen(["/bin/true"])
        reaper.wait()
        assert Children(tmp_path / "children.json").end_leftovers() == [ours.pid]
        assert ours.wait(5) == -signal.SIGTERM
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio,sys\nfrom pathlib import Path\nfrom labctl.sandbox.guests.processes import Children\n"
        "async def main():\n"
        f"    folder = Path({str(tmp_path)!r})\n"
        "    child = await Children(folder / 'c.json').start(['/bin/sleep', '60'], folder, folder / 'log')\n"
        "    await asyncio.sleep(0.5)\n    print(child.pid, flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert start_time(child) != ""
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while start_time(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert start_time(child) == ""
