"""Installing the nightly check, on a systemd whose `systemctl` writes down what it is asked, and a real OpenBao."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.testing

from labctl.adapters.systemd import Systemd
from labctl.engine import timer
from labctl.engine.lab import OpenLab, open_lab
from labctl.engine.steps.logins import ROLE_ID_VARIABLE, SECRET_ID_VARIABLE
from labctl.model.errors import LabError, UserError

SYSTEMCTL = """\
#!/bin/sh
echo "$*" >> {log}
case "$*" in
  *show*.timer*) printf 'ActiveState=active\\nNextElapseUSecRealtime=Fri 2026-01-02 03:30:00 UTC\\nLastTriggerUSec=n/a\\n' ;;
  *show*.service*) cat {result} ;;
  *refuse*) echo "no such unit" >&2; exit 5 ;;
esac
"""


@pytest.fixture
def lab(tmp_path: Path) -> OpenLab:
    (tmp_path / "lab.yaml").write_text("name: lab\ntarget: {sandbox: {guests: appliance}}\n")
    found = open_lab(tmp_path / "lab.yaml")
    found.paths.create()
    return found


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    program = tmp_path / "systemctl"
    (tmp_path / "result").write_text("Result=success\nExecMainStatus=0\nExecMainExitTimestamp=n/a\n")
    program.write_text(SYSTEMCTL.format(log=tmp_path / "calls", result=tmp_path / "result"))
    program.chmod(0o755)
    return Systemd(user=True, folder=tmp_path / "config" / "systemd" / "user", program=str(program))


def calls(tmp_path: Path) -> list[str]:
    file = tmp_path / "calls"
    found = [line.removeprefix("--user --no-pager ") for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def test_install_is_idempotent_status_tells_and_remove_leaves_nothing(lab: OpenLab, systemd: Systemd, tmp_path: Path) -> None:
    wanted = timer.nightly(lab, 3, 30, user=True, credentials=False)
    assert timer.timer_state(systemd, wanted) is None
    assert timer.install(lab, systemd, wanted).changed
    unit = f"{wanted.name}.timer"
    assert calls(tmp_path) == ["daemon-reload", f"enable --now {unit}", f"restart {unit}"]
    assert {path.name for path in systemd.folder.iterdir()} == set(wanted.units)
    assert not timer.install(lab, systemd, wanted).changed
    assert f"restart {unit}" not in calls(tmp_path)
    assert timer.install(lab, systemd, timer.nightly(lab, 4, 0, user=True, credentials=False)).changed
    assert "OnCalendar=*-*-* 04:00:00" in (systemd.folder / unit).read_text()
    state = timer.timer_state(systemd, wanted)
    assert state is not None
    assert (state.active, state.next, state.last, state.result) == (True, "Fri 2026-01-02 03:30:00 UTC", "", "")
    (tmp_path / "result").write_text("Result=success\nExecMainStatus=2\nExecMainExitTimestamp=Thu 2026-01-01 03:31:07 UTC\n")
    state = timer.timer_state(systemd, wanted)
    assert state is not None
    assert (state.result, state.code) == ("success", 2)
    calls(tmp_path)
    assert timer.remove(lab, systemd, wanted)
    assert list(systemd.folder.iterdir()) == []
    assert calls(tmp_path)[0] == f"disable --now {unit}"
    assert not timer.remove(lab, systemd, wanted)
    assert calls(tmp_path) == []


def test_what_systemd_refuses_is_said(lab: OpenLab, systemd: Systemd, tmp_path: Path) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2; exit 1\n")
    with pytest.raises(LabError, match="systemctl daemon-reload: Failed to connect to bus"):
        timer.install(lab, systemd, timer.nightly(lab, 3, 30, user=True, credentials=False))


def test_a_folder_of_units_that_cannot_be_written_says_user(lab: OpenLab, tmp_path: Path) -> None:
    (tmp_path / "etc").touch()
    systemd = Systemd(user=False, folder=tmp_path / "etc" / "systemd", program=str(tmp_path / "systemctl"))
    with pytest.raises(UserError) as refused:
        timer.install(lab, systemd, timer.nightly(lab, 3, 30, user=False, credentials=False))
    assert "--user" in refused.value.hint


def test_a_system_unit_runs_as_who_owns_the_lab(lab: OpenLab) -> None:
    wanted = timer.nightly(lab, 3, 30, user=False, credentials=True)
    assert wanted.user == lab.paths.file.owner()
    assert wanted.credentials == str(lab.paths.root / "nightly.env")


def test_without_systemd_the_line_for_cron_is_given(lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    from labctl.cli._main import app

    monkeypatch.setattr("labctl.adapters.systemd.find_systemd", lambda **_: None)
    done = typer.testing.CliRunner().invoke(app, ["schedule", "install", "--as-operator", "--lab", str(lab.paths.file)])
    assert isinstance(done.exception, UserError)
    assert "--cron" in done.exception.hint
    line = typer.testing.CliRunner().invoke(app, ["schedule", "install", "--cron", "--as-operator", "--lab", str(lab.paths.file)])
    assert line.output == f"30 3 * * * {timer._command()} drift --quiet --notify --lab {lab.paths.file}\n"
    # With a login of its own, which a lab that is not up cannot give, there is no line that would fail every night.
    without = typer.testing.CliRunner().invoke(app, ["schedule", "install", "--cron", "--lab", str(lab.paths.file)])
    assert isinstance(without.exception, LabError)
    assert without.output == ""
    shown = typer.testing.CliRunner().invoke(
        app, ["schedule", "install", "--print", "--at", "04:15", "--lab", str(lab.paths.file)]
    )
    assert "OnCalendar=*-*-* 04:15:00" in shown.output
    assert f"EnvironmentFile={lab.paths.root}/nightly.env" in shown.output


def test_a_lab_that_is_not_up_gives_no_login_and_installs_nothing(lab: OpenLab, systemd: Systemd, tmp_path: Path) -> None:
    with pytest.raises(LabError):
        timer.install(lab, systemd, timer.nightly(lab, 3, 30, user=True, credentials=True))
    assert calls(tmp_path) == []
    assert not timer.credentials_file(lab).exists()


def test_the_names_in_the_file_are_those_that_labctl_reads() -> None:
    assert (ROLE_ID_VARIABLE, SECRET_ID_VARIABLE) == ("LABCTL_VAULT_ROLE_ID", "LABCTL_VAULT_SECRET_ID")
