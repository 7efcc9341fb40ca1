"""What cloud-init says of itself, and what labctl makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labctl.model.cloudinit import Boot, BootStatus, ended_well, judge, last_line

STAGE = {"errors": [], "recoverable_errors": {}, "start": 1.0, "finished": 2.0}
SCRIPTS_FAILED = "('scripts_user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))"


def said(**fields: Any) -> str:
    """As cloud-init 25.1 on trixie prints it."""
    base: dict[str, Any] = {
        "boot_status_code": "enabled-by-generator",
        "datasource": "nocloud",
        "detail": "DataSourceNoCloud [seed=/var/lib/cloud/seed/nocloud]",
        "errors": [],
        "extended_status": "done",
        "init": STAGE,
        "recoverable_errors": {},
        "stage": None,
        "status": "done",
    }
    return json.dumps(base | fields)


CASES = {
    "done": (0, said(), BootStatus(Boot.DONE)),
    "broken user-data": (
        2,
        said(
            extended_status="degraded done",
            recoverable_errors={"WARNING": ["Failed loading yaml blob. Invalid format at line 3"]},
        ),
        BootStatus(Boot.DEGRADED, complaints=("Failed loading yaml blob. Invalid format at line 3",)),
    ),
    "degraded, and it does not say why": (2, said(extended_status="degraded done"), BootStatus(Boot.DEGRADED)),
    "merely deprecated": (
        2,
        said(extended_status="degraded done", recoverable_errors={"DEPRECATED": ["Key x is deprecated"]}),
        BootStatus(Boot.DONE),
    ),
    "a module failed": (
        1,
        said(status="error", extended_status="error - done", errors=[SCRIPTS_FAILED]),
        BootStatus(Boot.ERROR, errors=(SCRIPTS_FAILED,)),
    ),
    "a module failed, others still run": (
        1,
        said(status="error", extended_status="error - running", stage="modules-final", errors=[SCRIPTS_FAILED]),
        BootStatus(Boot.ERROR, "modules-final", errors=(SCRIPTS_FAILED,)),
    ),
    "running": (
        0,
        said(status="running", extended_status="running", stage="modules-config"),
        BootStatus(Boot.RUNNING, "modules-config"),
    ),
    "running, as an older release tells it": (
        0,
        json.dumps({"status": "running", "init": {"start": 1.0}, "modules-final": {"start": None}}),
        BootStatus(Boot.RUNNING, "init"),
    ),
    "not yet begun": (0, said(status="not run", extended_status="not run"), BootStatus(Boot.NOT_STARTED, "init")),
    "disabled": (0, said(status="disabled", extended_status="disabled"), BootStatus(Boot.DISABLED)),
    "no JSON": (1, "Traceback (most recent call last):", BootStatus(Boot.UNKNOWN)),
    "nothing": (0, "", BootStatus(Boot.UNKNOWN)),
    "another shape": (0, "[1, 2]", BootStatus(Boot.UNKNOWN)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict(name: str) -> None:
    code, out, expected = CASES[name]
    assert judge(code, out) == expected


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (SCRIPTS_FAILED, "module scripts_user (the commands of the guest's document)"),
        (
            "('package_update_upgrade_install', ProcessExecutionError(…))",
            "module package_update_upgrade_install (the packages of the distribution)",
        ),
        ("Failed to run module ntp", "module ntp"),
        ("something else", "cloud-init"),
    ],
)
def test_the_failing_part_has_a_name(error: str, part: str) -> None:
    assert BootStatus(Boot.ERROR, errors=(error,)).failed_part == part


def status_file(stage: str | None = None, **stages: Any) -> bytes:
    names = ("init-local", "init", "modules-config", "modules-final")
    return json.dumps({"v1": {"datasource": "x", "stage": stage} | dict.fromkeys(names, STAGE) | stages}).encode()


def test_the_quick_look_takes_only_a_clean_end() -> None:
    assert ended_well(status_file())
    assert ended_well(status_file(init=STAGE | {"recoverable_errors": {"DEPRECATED": ["x"]}}))
    for unclear in (
        None,
        b"",
        b"{",
        b"[]",
        b'{"v1": {}}',
        status_file(stage="modules-final"),
        status_file(**{"modules-final": STAGE | {"finished": None}}),
        status_file(**{"modules-final": STAGE | {"errors": [SCRIPTS_FAILED]}}),
        status_file(init=STAGE | {"recoverable_errors": {"WARNING": ["x"]}}),
    ):
        assert not ended_well(unclear), unclear


def test_the_last_line_is_what_a_terminal_would_show() -> None:
    assert last_line("Get:1 x\n 10%\r 99%\rUnpacking gitlab-ce\r\n\n  \n") == "Unpacking gitlab-ce"
    assert last_line("\x1b[1;32mok\x1b[0m\x07") == "ok"
    assert last_line("") == ""
