"""A lock is taken back only where it is certainly that of a Terraform of this lab that was killed."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labctl.adapters.terraform import RECORD_NAME, LockInfo
from labctl.engine.locks import DeadChild, dead_child, is_of

WHO = "me@here"
DEAD = DeadChild("apply", datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC))
LOCK = LockInfo("an-id", WHO, "apply", "2026-03-01 12:00:02 UTC", "state/platform/terraform.tfstate")


def test_the_killed_terraforms_lock() -> None:
    assert is_of(LOCK, DEAD, WHO)


@pytest.mark.parametrize(
    "lock",
    [
        replace(LOCK, who="me@there"),
        replace(LOCK, who="you@here"),
        replace(LOCK, operation="plan"),
        replace(LOCK, created="2026-03-01 11:59:58 UTC"),
        replace(LOCK, created="2026-03-01 12:00:31 UTC"),
        replace(LOCK, created="yesterday"),
        replace(LOCK, created=""),
    ],
)
def test_any_other_lock_is_somebody_elses(lock: LockInfo) -> None:
    assert not is_of(lock, DEAD, WHO)


def record(folder: Path, pid: int, start: int) -> None:
    shape = {"pid": pid, "start": start, "command": "apply", "since": "2026-03-01 12:00:00 UTC"}
    (folder / RECORD_NAME).write_text(json.dumps(shape))


def test_a_record_tells_of_a_killed_terraform_only_when_it_is_dead(tmp_path: Path) -> None:
    assert dead_child(tmp_path) is None
    gone = subprocess.Popen(["true"])
    gone.wait()
    record(tmp_path, gone.pid, 1)
    assert dead_child(tmp_path) == DEAD
    own_start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    record(tmp_path, os.getpid(), own_start)
    assert dead_child(tmp_path) is None
