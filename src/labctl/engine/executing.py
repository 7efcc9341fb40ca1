"""Does the same to many stacks, in order and several at once, and keeps what came of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labctl.engine.interrupt import Interrupted
from labctl.engine.run import Run, StackRun
from labctl.engine.scheduler import run_schedule
from labctl.model.errors import LabError
from labctl.model.report import BLOCKED, FAILED, INTERRUPTED
from labctl.model.schedule import Schedule


def run_stacks(run: Run, stacks: Sequence[StackRun], work: Callable[[StackRun], None], *, downwards: bool = False) -> None:
    """Calls `work(stack)` for each stack as soon as all before it have ended well.

    Args:
        run: The run.
        stacks: The stacks.
        work: Does one stack and sets its result.
        downwards: Those that depend on a stack come before it.

    Raises:
        LabError: The first one that `work` raised, when all has ended. Stacks that had to wait for a failed one are blocked then;
            the others were done.
    """
    names = [stack.name for stack in stacks]
    schedule = Schedule(run.graph, names, limit=run.parallelism, downwards=downwards, fail_fast=run.options.fail_fast)
    failed: list[LabError] = []

    def one(name: str) -> bool:
        stack = run.stack(name)
        stack.began_s = run.clock()
        try:
            work(stack)
        except LabError as error:
            stack.result = INTERRUPTED if isinstance(error, Interrupted) or run.interrupts.count else FAILED
            stack.error = error
            failed.append(error)
            run.stack_stage(name, stack.result, ended=True)
            return False
        finally:
            stack.ended_s = run.clock()
        run.stack_stage(name, "up to date" if stack.result == "no changes" else stack.result, ended=True)
        return True

    run_schedule(schedule, one, lambda: bool(run.interrupts.count))
    for name, blame in schedule.blocked.items():
        stack = run.stack(name)
        stack.result, stack.blame = BLOCKED, blame
        run.stack_stage(name, BLOCKED, f"blocked by {blame}", ended=True)
    for error in failed[1:]:
        run.say(error.message, error.where, kind="error", hint=error.hint)
    if failed:
        raise failed[0]
    run.interrupts.check()
