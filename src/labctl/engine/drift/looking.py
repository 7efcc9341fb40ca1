"""One stack against the world and the code: a plan that locks nothing, and what it says."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from labctl.adapters.terraform import RECORD_NAME, TerraformError, running_child
from labctl.engine.drift.scratch import scratch_copy
from labctl.engine.interrupt import Interrupted
from labctl.engine.journal import PLAN_SUFFIX
from labctl.engine.labrun import LabRun
from labctl.engine.retry import pass_by_itself
from labctl.engine.run import StackRun
from labctl.engine.unlock import StateLock, read_lock
from labctl.engine.workspace import forget_init, terraform
from labctl.model.drift import StackDrift, Verdict
from labctl.model.drift.stack import stack_findings, verdict_of
from labctl.model.errors import LabError, UserError

POLL_S = 0.5


class _Moved(Exception):
    """The state changed, or was locked, while it was planned."""


def look_at_stack(run: LabRun, stack: StackRun, deadline: float, lacking: str = "") -> StackDrift:
    """What drifted and what is pending in a stack whose state was read. Raises nothing but for a signal.

    Args:
        run: The run.
        stack: The stack.
        deadline: Until when a state that somebody works on is waited for, by `time.monotonic`.
        lacking: As in `stack_findings`.

    Raises:
        Interrupted: A signal came.
    """
    began = time.monotonic()
    found = StackDrift(stack.name, stack.layer, Verdict.NOT_DEPLOYED)
    if stack.state.deployed:
        try:
            found = _patiently(run, stack, deadline, lacking)
        except Interrupted:
            raise
        except LabError as error:
            found = unknown(stack, error)
    found = replace(found, seconds=round(time.monotonic() - began, 3))
    run.stack_stage(stack.name, str(found.verdict), _line(found), ended=True)
    return found


def unknown(stack: StackRun, error: LabError, verdict: Verdict = Verdict.ERROR) -> StackDrift:
    """A stack of which nothing is known, and why."""
    where = f"{error.where}: " if error.where and not error.where.startswith(stack.name) else ""
    return StackDrift(stack.name, stack.layer, verdict, problem=f"{where}{error.message}", hint=error.hint)


def _line(found: StackDrift) -> str:
    if found.problem:
        return f"{found.verdict}: {found.problem}"
    count = f" ({len(found.findings)} found)" if found.findings else ""
    return f"{found.verdict}{count}"


def _patiently(run: LabRun, stack: StackRun, deadline: float, lacking: str) -> StackDrift:
    """Plans while nobody works on the state; one that changed meanwhile is planned again."""
    while True:
        run.interrupts.check()
        busy = _busy(run, stack)
        if busy is None:
            try:
                return _plan(run, stack, lacking)
            except _Moved:
                busy = UserError("its state changes while it is looked at", hint="Run `labctl drift` again later.")
        if time.monotonic() >= deadline:
            return unknown(stack, busy, Verdict.LOCKED)
        run.stack_stage(stack.name, "waiting", "waiting for the state's lock")
        time.sleep(POLL_S)


def _busy(run: LabRun, stack: StackRun) -> LabError | None:
    """Who works on the state now, as an error; None for nobody."""
    child = running_child(stack.stack.folder / RECORD_NAME)
    if child is not None:
        return UserError(
            f"a Terraform of an earlier run still works on its state ({child.command}, process {child.pid}, since {child.since})",
            hint="Wait for it to end.",
        )
    lock = read_lock(run, stack)
    return None if lock.info is None else _locked(lock)


def _locked(lock: StateLock) -> UserError:
    return UserError(
        f"its state is locked by {lock.holder}",
        hint=f"Wait for that run to end. `labctl unlock {lock.stack}` tells more.",
    )


def _plan(run: LabRun, stack: StackRun, lacking: str) -> StackDrift:
    """One plan and what it says.

    Raises:
        _Moved: The state was changed or locked meanwhile.
        LabError: It could not be planned.
    """
    state = run.read_state(stack)
    gone = run.gone(stack)
    if not gone and not run.refreshes(stack):
        raise UserError("guest docker is off: what runs there cannot be seen", hint="`labctl up` starts it.")
    try:
        document = _shown(run, stack, scratch=bool(gone))
    except Interrupted:
        raise
    except LabError:
        if _busy(run, stack) is not None or run.read_state(stack) != state:
            raise _Moved from None
        raise
    if _busy(run, stack) is not None or run.read_state(stack) != state:
        raise _Moved
    findings = stack_findings(document, stack=stack.name, layer=stack.layer, gone=gone, lacking=lacking)
    return StackDrift(stack.name, stack.layer, verdict_of(findings), findings)


def _shown(run: LabRun, stack: StackRun, *, scratch: bool) -> dict[str, Any]:
    """The plan as Terraform shows it, made again where the folder must be set up anew, or what failed passes by itself."""
    tries = 0
    while True:
        tries += 1
        try:
            return _shown_without_gone(run, stack) if scratch else _shown_in_place(run, stack)
        except TerraformError as error:
            if error.wants_init and tries == 1:
                forget_init(stack)
            elif not pass_by_itself(run, stack, error, tries):
                raise


def _shown_in_place(run: LabRun, stack: StackRun) -> dict[str, Any]:
    tool = terraform(run, stack)
    file = run.journal.folder / f"{stack.name}{PLAN_SUFFIX}"
    run.stack_stage(stack.name, "looking")
    with stack.timed("plan"), run.interrupts.telling(tool.cancel):
        tool.plan(file, lock=False)
        return tool.show_plan(file)


def _shown_without_gone(run: LabRun, stack: StackRun) -> dict[str, Any]:
    """As `_shown_in_place`, on a copy of the state without what went with its guest: the plan would fail on that."""
    with scratch_copy(run, stack, "drift") as tool:
        run.stack_stage(stack.name, "looking")
        with stack.timed("plan"), run.interrupts.telling(tool.cancel):
            file = tool.work_dir / f"plan{PLAN_SUFFIX}"
            tool.plan(file, refresh=run.refreshes(stack), lock=False)
            return tool.show_plan(file)
