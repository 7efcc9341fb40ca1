"""What cloud-init says of itself, and what labctl makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labctl.model.cloudinit import Boot, BootStatus, ended_well, judge, telling_lines

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


def test_lines_are_as_a_terminal_would_show_them() -> None:
    assert telling_lines("Get:1 x\n 10%\r 99%\rUnpacking gitlab-ce\r\n\n  \n") == ["Get:1 x", "10%", "99%", "Unpacking gitlab-ce"]
    assert telling_lines("\x1b[1;32mok\x1b[0m\x07") == ["ok"]
    assert telling_lines("ci-info: |  eth0  | True |\ncat: /no/such/file\n") == ["cat: /no/such/file"]
    assert telling_lines("") == []


SEEN_ON_TRIXIE = """\
Created symlink '/etc/systemd/system/multi-user.target.wants/lab-identity.path' → '/etc/systemd/system/lab-identity.path'.
curl: (6) Could not resolve host: download.docker.com
curl: (6) Could not resolve host: download.docker.com
03:33:25,817 - cc_scripts_user.py[WARNING]: Failed to run module scripts-user (scripts in /var/lib/cloud/instance/scripts)
2026-11-25 03:33:25,818 - log_util.py[WARNING]: Running module scripts-user (<module 'cloudinit.config.cc_scripts_user'>) failed
Cloud-init v. 25.1.4 finished at Wed, 25 Nov 2026 03:33:25 +0000. Datasource DataSourceNoCloud.  Up 15162.60 seconds
Generating public/private ed25519 key pair.
Your identification has been saved in /etc/ssh/ssh_host_ed25519_key
Your public key has been saved in /etc/ssh/ssh_host_ed25519_key.pub
The key fingerprint is:
SHA256:+dny7tg6TbmSlTDSi1LGZeo/X7uXZ4p2lIsoMr8TnSw root@gitlab
The key's randomart image is:
+--[ED25519 256]--+
|      o          |
|       +o+oXB.+=.|
+----[SHA256]-----+
"""


def test_the_cause_is_the_last_line_though_cloud_init_prints_its_own_behind_it() -> None:
    assert telling_lines(SEEN_ON_TRIXIE)[-1] == "curl: (6) Could not resolve host: download.docker.com"
    assert len(telling_lines(SEEN_ON_TRIXIE)) == 2


def test_the_reason_comes_without_pythons_words() -> None:
    assert BootStatus(Boot.ERROR, errors=(SCRIPTS_FAILED,)).reason == "Runparts: 1 failures (runcmd) in 1 attempted commands"
    assert BootStatus(Boot.ERROR, errors=("plain",)).reason == "plain"
    assert BootStatus(Boot.ERROR).reason == ""
