"""A state's lock that a killed Terraform of this lab left in the bucket is taken back; anybody else's is not."""

from __future__ import annotations

import os
import pwd
import re
from datetime import UTC, datetime, timedelta

from labctl.adapters.terraform import RECORD_NAME, ChildRecord, LockInfo, TerraformError, dead_children, forget_dead
from labctl.engine.run import Run, StackRun
from labctl.engine.workspace import terraform

LOCK_SLACK = timedelta(seconds=30)
"""From the start of a Terraform to its lock: it starts its provider and reads its backend first."""


def is_of(lock: LockInfo, dead: ChildRecord, who: str) -> bool:
    """Whether the lock is the killed Terraform's: same user and host, same operation, taken right after its start.

    Args:
        lock: The lock.
        dead: The killed Terraform.
        who: `user@host`, as Terraform writes it here.
    """
    found = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", lock.created)
    if found is None or dead.began is None or lock.who != who or lock.operation != dead.command.replace(" ", "-"):
        return False
    created = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return dead.began - timedelta(seconds=1) <= created <= dead.began + LOCK_SLACK


def _user() -> str:
    """This user as Terraform writes it: from the system's list, whatever `USER` says (Go, `os/user`, `Current`)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("USER", "")


def free_dead_lock(run: Run, stack: StackRun) -> None:
    """Takes back the lock of a Terraform of this lab that was killed, in the last run or in one before it.

    No other run of this lab can be alive: this one holds the lab.

    Raises:
        TerraformError: The state is locked by somebody else; it says by whom and since when.
    """
    record = stack.stack.folder / RECORD_NAME
    dead = dead_children(record)
    if not dead:
        return
    tool = terraform(run, stack)
    file = run.journal.folder / f"{stack.name}.probe"
    who = f"{_user()}@{os.uname().nodename}"
    try:
        with run.interrupts.telling(tool.cancel):
            tool.plan(file, refresh=False)
    except TerraformError as error:
        if error.lock is None:
            return
        owner = next((one for one in dead if is_of(error.lock, one, who)), None)
        if owner is None:
            raise
        tool.force_unlock(error.lock.id)
        run.say(
            f"took back the lock of a run that was killed ({owner.command}, since {error.lock.created})", stack.name, "warning"
        )
    finally:
        file.unlink(missing_ok=True)
    forget_dead(record)
