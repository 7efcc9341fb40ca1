"""A state's lock that a killed Terraform of this lab left in the bucket is taken back; anybody else's is not."""

from __future__ import annotations

import getpass
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labctl.adapters.terraform import RECORD_NAME, LockInfo, TerraformError, read_record, running_child
from labctl.engine.run import Run, StackRun
from labctl.engine.workspace import terraform

LOCK_SLACK = timedelta(seconds=30)
"""From the start of a Terraform to its lock: it starts its provider and reads its backend first."""


@dataclass(frozen=True, slots=True)
class DeadChild:
    """A Terraform of this lab that ended without taking its record away: it was killed, or its machine was."""

    command: str
    since: datetime


def dead_child(folder: Path) -> DeadChild | None:
    """The killed Terraform that a work folder still remembers."""
    record = read_record(folder / RECORD_NAME)
    if record is None or running_child(folder / RECORD_NAME) is not None:
        return None
    try:
        since = datetime.strptime(record.since, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return None
    return DeadChild(record.command, since)


def is_of(lock: LockInfo, dead: DeadChild, who: str) -> bool:
    """Whether the lock is the killed Terraform's: same user and host, same operation, taken right after its start.

    Args:
        lock: The lock.
        dead: The killed Terraform.
        who: `user@host`, as Terraform writes it here.
    """
    found = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", lock.created)
    if found is None or lock.who != who or lock.operation != dead.command:
        return False
    created = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return dead.since - timedelta(seconds=1) <= created <= dead.since + LOCK_SLACK


def free_dead_lock(run: Run, stack: StackRun) -> None:
    """Takes back the lock of a Terraform of this lab that was killed.

    To be called before any other command in the stack's folder, which would replace the record that proves it. No other run of
    this lab can be alive: this one holds the lab.

    Raises:
        TerraformError: The state is locked by somebody else; it says by whom and since when.
    """
    dead = dead_child(stack.stack.folder)
    if dead is None:
        return
    tool = terraform(run, stack)
    file = run.journal.folder / f"{stack.name}.probe"
    try:
        with run.interrupts.telling(tool.cancel):
            tool.plan(file, refresh=False)
    except TerraformError as error:
        if error.lock is None:
            return
        if not is_of(error.lock, dead, f"{getpass.getuser()}@{socket.gethostname()}"):
            raise
        tool.force_unlock(error.lock.id)
        run.say(
            f"took back the lock of a run that was killed ({dead.command}, since {error.lock.created})", stack.name, "warning"
        )
    finally:
        file.unlink(missing_ok=True)
