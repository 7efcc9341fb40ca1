"""The commands of a guest, and systemctl on its units."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from labctl.model.units import UnitState, parse_units
from labctl.sandbox.guests.commands import COMMANDS, Context, run
from labctl.sandbox.guests.files import GuestFiles
from labctl.sandbox.guests.runtime import GuestSpec
from labctl.sandbox.guests.systemctl import Result

SPEC = GuestSpec(201, "gitlab", "", "127.86.170.201", 24, "bc:24:11:00:00:01", "gitlab.example.com", 512)


class FakeUnit:
    def __init__(self, *, can_start: bool = True) -> None:
        self.state = "inactive"
        self.seen: list[str] = []
        self.can_start = can_start

    async def start(self) -> str:
        self.seen.append("start")
        self.state = "active" if self.can_start else "failed"
        return "" if self.can_start else "it broke"

    async def stop(self) -> None:
        self.seen.append("stop")
        self.state = "inactive"

    async def restart(self) -> str:
        await self.stop()
        return await self.start()

    def reload(self) -> str:
        self.seen.append("reload")
        return "" if self.state == "active" else "not active"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    files = GuestFiles(tmp_path / "disk", tmp_path / "run")
    files.make()
    return Context(SPEC, files, {"openbao.service": FakeUnit(), "broken.service": FakeUnit(can_start=False)})


def sh(context: Context, line: str) -> Result:
    name, *arguments = line.split()
    return asyncio.run(run(context, name, arguments))


def test_install_makes_an_empty_file_with_a_mode_before_a_secret_is_written(context: Context) -> None:
    assert sh(context, "install -m 0600 /dev/null /run/lab/s3.json") == Result()
    assert stat.S_IMODE(context.files.mode("/run/lab/s3.json")) == 0o600
    assert sh(context, "install -d -m 0750 -o root -g root /opt/a/b") == Result()
    assert stat.S_IMODE(context.files.mode("/opt/a/b")) == 0o750
    assert sh(context, "stat -c %a /opt/a/b").out == "750\n"


def test_a_failure_is_an_exit_status_and_a_sentence(context: Context) -> None:
    assert sh(context, "cat /nowhere/x") == Result(1, err="cat: nowhere: No such file or directory\n")
    assert sh(context, "install -Q x").code == 2
    assert sh(context, "chmod rwx /etc").code == 2
    assert sh(context, "test -e /gone").code == 1
    assert sh(context, "rm /gone").code == 1
    assert sh(context, "rm -f /gone").code == 0


def test_cloud_init_says_done_in_its_own_json(context: Context) -> None:
    assert json.loads(sh(context, "cloud-init status --format json").out)["status"] == "done"


def test_systemctl_has_systemds_exit_codes(context: Context) -> None:
    assert sh(context, "systemctl is-active openbao") == Result(3, out="inactive\n")
    assert sh(context, "systemctl start openbao.service") == Result()
    assert sh(context, "systemctl is-active --quiet openbao.service").code == 0
    assert sh(context, "systemctl reload openbao") == Result()
    assert sh(context, "systemctl restart nonesuch").code == 5
    assert sh(context, "systemctl is-active nonesuch").code == 4
    assert sh(context, "systemctl start broken") == Result(1, err="it broke\n")
    assert sh(context, "systemctl is-failed broken").code == 0
    assert sh(context, "systemctl is-active qemu-guest-agent").out == "active\n"
    assert sh(context, "systemctl frobnicate openbao").code == 1
    unit = context.units["openbao.service"]
    assert isinstance(unit, FakeUnit)
    assert unit.seen == ["start", "reload"]


def test_systemctl_shows_units_as_systemd_does(context: Context) -> None:
    sh(context, "systemctl start openbao.service")
    shown = sh(context, "systemctl show --property=Id,LoadState,ActiveState openbao.service docker.service")
    assert parse_units(shown.out, ["openbao.service", "docker.service"]) == (
        UnitState("openbao.service", "active"),
        UnitState("docker.service", "missing"),
    )


def test_journalctl_goes_on_where_it_was(context: Context) -> None:
    context.files.write("/var/log/openbao.service.log", b"one\ntwo\nthr")
    first = sh(context, "journalctl --boot --no-pager --output=short-iso --lines=5000 --show-cursor").out.splitlines()
    assert first[:-1] == ["openbao.service: one", "openbao.service: two"]
    cursor = first[-1].removeprefix("-- cursor: ")
    context.files.write("/var/log/openbao.service.log", b"one\ntwo\nthree\n")
    more = sh(context, f"journalctl --boot --show-cursor --after-cursor={cursor}").out.splitlines()
    assert more[:-1] == ["openbao.service: three"]
    assert sh(context, "journalctl --boot --output=cat --lines=1 --unit=openbao.service").out == "three\n"
    assert sh(context, "journalctl --unit=none.service").out == ""


def test_tail(context: Context) -> None:
    context.files.write("/var/log/x.log", b"1\n2\n3\n")
    assert sh(context, "tail --lines=2 /var/log/x.log").out == "2\n3\n"
    assert sh(context, "tail /var/log/missing.log").code == 1


def test_no_shell_is_among_the_commands() -> None:
    assert {"sh", "bash", "env", "python3"}.isdisjoint(COMMANDS)
