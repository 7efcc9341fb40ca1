"""A lock is taken back only where it is certainly that of a Terraform of this lab that was killed."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace

import pytest

from labctl.adapters.terraform import ChildRecord, LockInfo
from labctl.engine.locks import _user, is_of

WHO = "me@here"
DEAD = ChildRecord(4711, 1, "apply", "2026-03-01 12:00:00 UTC")
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


def test_a_killed_state_push_holds_its_lock_under_terraforms_name() -> None:
    assert is_of(replace(LOCK, operation="state-push"), replace(DEAD, command="state push"), WHO)


def test_who_holds_a_lock_is_told_by_the_system_not_by_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "USERNAME"):
        monkeypatch.setenv(name, "somebody")
    assert _user() == pwd.getpwuid(os.getuid()).pw_name
