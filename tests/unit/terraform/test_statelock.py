"""Locks read without a Terraform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labctl.adapters.terraform.diagnostics import LockInfo
from labctl.adapters.terraform.statelock import file_lock, lock_from_json

# As Terraform 1.11 wrote it into a bucket, with a sample host.
JSON = (
    '{"ID":"b7060280-075d-c732-9ca5-cc59e36ba5bc","Operation":"OperationTypeApply","Info":"","Who":"root@lab.example.com",'
    '"Version":"1.11.4","Created":"2026-11-22T04:17:58.42263884Z","Path":"terraform/state/x/terraform.tfstate"}'
)
LOCK = LockInfo(
    "b7060280-075d-c732-9ca5-cc59e36ba5bc",
    "root@lab.example.com",
    "apply",
    "2026-11-22 04:17:58 UTC",
    "terraform/state/x/terraform.tfstate",
)
HOLD = """
import fcntl, sys
handle = open(sys.argv[1], "r+b")
fcntl.lockf(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_read_as_the_one_in_an_error_is() -> None:
    assert lock_from_json(JSON) == LOCK
    assert lock_from_json(JSON.encode()) == LOCK


def test_a_whole_second_is_a_time_too() -> None:
    lock = lock_from_json(JSON.replace(".42263884Z", "Z"))
    assert lock is not None
    assert lock.created == "2026-11-22 04:17:58 UTC"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '{"Who": "me"}', b"\xff"])
def test_anything_else_is_no_lock(text: str | bytes) -> None:
    assert lock_from_json(text) is None


def test_a_state_that_a_live_process_holds(tmp_path: Path) -> None:
    state, note = tmp_path / "foundation.tfstate", tmp_path / ".foundation.tfstate.lock.info"
    assert (file_lock(state).info, file_lock(state).held) == (None, False)
    state.write_text("{}")
    note.write_text(JSON)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert (file_lock(state).info, file_lock(state).held) == (LOCK, True)
        other.kill()
    # The note is still there; nobody holds the state.
    left = file_lock(state)
    assert (left.info, left.held, left.file) == (LOCK, False, note)
