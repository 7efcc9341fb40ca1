"""When a lock is broken, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.adapters.terraform import ChildRecord, LockInfo
from labctl.cli.unlock import lock_lines
from labctl.engine.unlock import StateLock, refuse_breaking
from labctl.model.errors import UserError

INFO = LockInfo("an-id", "me@there", "apply", "2026-03-01 12:00:02 UTC", "state/platform/terraform.tfstate")
FOREIGN = StateLock("platform", "s3://terraform/state/platform/terraform.tfstate.tflock", INFO)
OWN = ChildRecord(4711, 1, "apply", "2026-03-01 12:00:00 UTC")


def test_a_foreign_lock_is_broken_with_its_id_only() -> None:
    refuse_breaking(FOREIGN, "an-id")
    with pytest.raises(UserError, match="another id than other-id") as caught:
        refuse_breaking(FOREIGN, "other-id")
    assert "me@there since 2026-03-01 12:00:02 UTC (operation apply, lock an-id)" in str(caught.value)


@pytest.mark.parametrize(
    ("lock", "says"),
    [
        (replace(FOREIGN, working=OWN), "still works there (apply, process 4711"),
        (replace(FOREIGN, local=True), "a live process on this machine"),
    ],
)
def test_a_live_holders_lock_is_not_broken_even_with_its_id(lock: StateLock, says: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse_breaking(lock, "an-id")
    assert says in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("lock", "says", "not_says"),
    [
        (FOREIGN, "labctl unlock platform --id an-id", "process"),
        (replace(FOREIGN, working=OWN), "process 4711", "--id"),
        (replace(FOREIGN, local=True), "cannot be broken", "--id"),
        (replace(FOREIGN, broken=True), "platform is unlocked", "--id"),
        (replace(FOREIGN, info=None), "platform is not locked.", "--id"),
        (replace(FOREIGN, info=None, left=INFO), "locks nothing", "--id"),
    ],
)
def test_people_are_told_what_to_do(lock: StateLock, says: str, not_says: str) -> None:
    text = "\n".join(lock_lines(lock))
    assert says in text
    assert not_says not in text
