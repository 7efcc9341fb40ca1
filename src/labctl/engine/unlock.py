"""`labctl unlock`: shows the lock that is on a stack's state, and breaks it where its holder is certainly dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labctl.adapters.terraform import RECORD_NAME, ChildRecord, LockInfo, file_lock, lock_from_json, running_child
from labctl.engine.events import Event
from labctl.engine.labrun import LabRun
from labctl.engine.run import StackRun, Stage
from labctl.engine.session import LOCAL_LAYER
from labctl.engine.stages import check_options, open_hypervisor, prepare_engine, read_states, synthesise
from labctl.engine.workspace import terraform
from labctl.model.errors import AdapterError, UserError, nearest
from labctl.model.state import STATE_BUCKET, lock_key

PREPARE: tuple[Stage, ...] = (
    ("checking the options", check_options),
    ("opening the target", open_hypervisor),
    ("synthesising the stacks", synthesise),
    ("preparing Terraform", prepare_engine),
    ("reading the states", read_states),
)


@dataclass(frozen=True, slots=True)
class StateLock:
    """The lock on a stack's state.

    Attributes:
        stack: The stack.
        where: The object or file that says whose it is.
        info: Whose it is; None where the state is not locked.
        left: Whose a note is that locks nothing: a dead process left it beside a state on this disk.
        local: Whether it is the lock of a live process on this machine, which goes with it and cannot be broken.
        working: The lab's own Terraform that works there now, None if none does.
        broken: Whether it was broken just now.
    """

    stack: str
    where: str
    info: LockInfo | None = None
    left: LockInfo | None = None
    local: bool = False
    working: ChildRecord | None = None
    broken: bool = False

    @property
    def holder(self) -> str:
        """Who holds it since when, in words."""
        info = self.info
        assert info is not None
        since = f" since {info.created}" if info.created else ""
        return f"{info.who or 'somebody'}{since} (operation {info.operation or 'unknown'}, lock {info.id or 'unknown'})"

    def as_fields(self) -> dict[str, Any]:
        """What the event `lock` carries."""
        info = self.info
        lock = {"id": info.id, "who": info.who, "operation": info.operation, "since": info.created} if info else None
        return {"where": self.where, "lock": lock, "broken": self.broken}


def unlock(run: LabRun, name: str, lock_id: str = "") -> StateLock:
    """Reads the lock on a stack's state, and breaks it where `lock_id` names it.

    Raises:
        UserError: There is no such stack, or the lock is not to be broken (`refuse_breaking`).
        LabError: The state's backend is out of reach.
    """
    for title, stage in PREPARE:
        with run.stage(title):
            stage(run)
    stack = next((one for one in run.stacks if one.name == name), None)
    if stack is None:
        raise UserError(f"there is no stack {name!r}", hint=nearest(name, [one.name for one in run.stacks]))
    found = read_lock(run, stack)
    if found.info is not None and lock_id:
        refuse_breaking(found, lock_id)
        with run.stage(f"breaking the lock of {name}"):
            tool = terraform(run, stack)
            with run.interrupts.telling(tool.cancel):
                tool.force_unlock(lock_id)
        run.say(f"broke the lock of {found.holder}", name, kind="warning")
        found = StateLock(found.stack, found.where, found.info, broken=True)
    run.emit(Event("lock", stack=name, fields=found.as_fields()))
    return found


def read_lock(run: LabRun, stack: StackRun) -> StateLock:
    """The lock on a stack's state, read without a Terraform.

    Raises:
        LabError: The bucket is out of reach, or what lies there is no lock.
    """
    working = running_child(stack.stack.folder / RECORD_NAME)
    if stack.layer == LOCAL_LAYER:
        lock = file_lock(run.paths.state / f"{stack.name}.tfstate")
        if not lock.held:
            return StateLock(stack.name, str(lock.file), left=lock.info, local=True, working=working)
        return StateLock(stack.name, str(lock.file), info=lock.info or LockInfo(""), local=True, working=working)
    where = f"s3://{STATE_BUCKET}/{lock_key(stack.name)}"
    if run.session is None:
        raise run.session_problem or UserError(f"{LOCAL_LAYER} is not up, so there is no state yet", where=stack.name)
    store = run.session.state_store
    if lock_key(stack.name) not in store.keys(STATE_BUCKET, lock_key(stack.name)):
        return StateLock(stack.name, where, working=working)
    info = lock_from_json(store.get(STATE_BUCKET, lock_key(stack.name)))
    if info is None:
        raise AdapterError(
            "this is not a lock as Terraform writes it", where=where, hint="Look at the object before you delete it."
        )
    return StateLock(stack.name, where, info, working=working)


def refuse_breaking(found: StateLock, lock_id: str) -> None:
    """Stops where the lock must not be broken.

    Raises:
        UserError: Says why, and what to do.
    """
    assert found.info is not None
    if found.working is not None:
        raise UserError(
            f"a Terraform of this lab still works there ({found.working.command}, process {found.working.pid}, "
            f"since {found.working.since}): its lock is not broken",
            hint=f"Wait for it to end, or ask it to finish: `kill -INT {found.working.pid}`.",
            where=found.stack,
        )
    if found.local:
        raise UserError(
            f"the state is locked by {found.holder}, a live process on this machine: such a lock cannot be broken",
            hint="Wait for that process to end, or stop it: its lock goes with it.",
            where=found.stack,
        )
    if found.info.id != lock_id:
        raise UserError(
            f"the lock has another id than {lock_id}: it is held by {found.holder}",
            hint="Look who that is, and whether it is certainly dead, before you break it.",
            where=found.stack,
        )
