"""The units of the nightly check, as systemd itself reads them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.model.errors import UserError
from labctl.model.timer import Nightly, credentials_in, credentials_text, time_of_day
from tests.needs import needed

SYSTEM = Nightly(
    lab="lab",
    lab_file="/srv/lab/lab.yaml",
    labctl="/srv/lab/.venv/bin/labctl",
    credentials="/srv/lab/.labctl/lab/nightly.env",
    writes=("/srv/lab/.labctl", "/srv/lab/.cache/labctl/mirror"),
    user="ops",
    path="/srv/lab/.venv/bin:/usr/bin:/bin",
)
USER = replace(SYSTEM, user="", credentials="", hour=23, minute=5)
ODD = replace(
    SYSTEM,
    lab_file='/srv/my "lab" 100%/$HOME/lab.yaml',
    labctl="/bin/echo",
    credentials="/srv/my lab 100%/nightly.env",
    writes=("/tmp/a b", "/tmp/50%"),
)


@pytest.mark.parametrize(("name", "nightly"), [("system", SYSTEM), ("user", USER), ("odd", ODD)])
def test_the_units_are_as_agreed(golden: Callable[[str, str], None], name: str, nightly: Nightly) -> None:
    golden(f"timer/{name}.txt", "\n".join(f"# {file}\n{text}" for file, text in nightly.units.items()))


@pytest.mark.parametrize("nightly", [SYSTEM, USER, ODD], ids=["system", "user", "odd"])
def test_systemd_has_nothing_against_them(tmp_path: Path, nightly: Nightly) -> None:
    needed("systemd-analyze", "systemd")
    for name, text in replace(nightly, labctl="/bin/echo").units.items():
        (tmp_path / name).write_text(text)
    files = [str(path) for path in tmp_path.iterdir()]
    scope = [] if nightly.user else ["--user"]
    done = subprocess.run(["systemd-analyze", *scope, "verify", "--man=no", *files], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or nightly.name in line]
    assert said == [], done.stderr


def test_systemd_does_find_mistakes(tmp_path: Path) -> None:
    needed("systemd-analyze", "systemd")
    text = SYSTEM.units[f"{SYSTEM.name}.service"].replace("ProtectSystem=strict", "ProtectSystem=perhaps")
    file = tmp_path / f"{SYSTEM.name}.service"
    file.write_text(text.replace("/srv/lab/.venv/bin/labctl", "/bin/echo"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True, check=False)
    assert "perhaps" in done.stderr


def test_systemd_counts_the_service_as_locked_up(tmp_path: Path) -> None:
    """Its exposure, in tenths: 100 is a service without any hardening."""
    needed("systemd-analyze", "systemd")
    file = tmp_path / f"{SYSTEM.name}.service"
    file.write_text(SYSTEM.units[file.name].replace("/srv/lab/.venv/bin/labctl", "/bin/echo"))
    argv = ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-600:] + done.stderr


def test_two_labs_of_one_name_have_units_of_their_own() -> None:
    assert replace(SYSTEM, lab_file="/srv/other/lab.yaml").name != SYSTEM.name
    assert SYSTEM.name == USER.name


@pytest.mark.parametrize(("text", "found"), [("03:30", (3, 30)), ("3:05", (3, 5)), ("23:59", (23, 59)), (" 00:00 ", (0, 0))])
def test_a_time_of_day(text: str, found: tuple[int, int]) -> None:
    assert time_of_day(text) == found


@pytest.mark.parametrize("text", ["24:00", "3", "03:60", "03:30:00", "noon", "", "03:30\nExecStart=/bin/sh"])
def test_what_is_no_time_of_day(text: str) -> None:
    with pytest.raises(UserError, match="no time of day"):
        time_of_day(text)


def test_no_path_makes_a_line_of_its_own() -> None:
    with pytest.raises(UserError, match="line break"):
        _ = replace(SYSTEM, lab_file="/srv/lab\nExecStartPre=/bin/sh/lab.yaml").units


def test_the_line_of_cron_is_what_a_shell_runs() -> None:
    assert USER.cron == "5 23 * * * /srv/lab/.venv/bin/labctl drift --quiet --notify --lab /srv/lab/lab.yaml"
    # Of cron, % is a line break; taken back, the shell sees one argument.
    command = ODD.cron.split(" ", 5)[5].replace("\\%", "%").split("; ", 2)[2]
    shown = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert shown == f"drift --quiet --notify --lab {ODD.lab_file}\n"


def test_a_credentials_file_is_for_a_shell_too(tmp_path: Path) -> None:
    file = tmp_path / "nightly.env"
    file.write_text(credentials_text({"B": "root@pam!drift=1-2", "A": "x"}))
    assert file.read_text() == "A='x'\nB='root@pam!drift=1-2'\n"
    assert credentials_in(file.read_text()) == {"A": "x", "B": "root@pam!drift=1-2"}
    assert credentials_in("# a note\nA=x\nB='y\nC='z'\n") == {"C": "z"}
    sourced = f'. {file}; printf %s "$B"'
    assert subprocess.run(
        [shutil.which("sh") or "sh", "-c", sourced], capture_output=True, text=True, check=True
    ).stdout.endswith("1-2")
    with pytest.raises(UserError):
        credentials_text({"A": "x'\nB='y"})
