"""`labctl down`: destroys stacks in reverse order; what depends on a stack goes before it."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.engine.applying import apply_and_read
from labctl.engine.executing import run_stacks
from labctl.engine.planning import plan_stacks
from labctl.engine.preparing import prepare, selected
from labctl.engine.report import Report, conclude
from labctl.engine.run import Run, StackRun
from labctl.model.errors import LabError
from labctl.model.report import DECLINED, DESTROYED, DONE, NOTHING


def down(run: Run) -> Report:
    """Destroys the selected stacks and what depends on them.

    A stack is touched only after all that depend on it are gone.

    Raises:
        LabError: A plan is refused by a rule, or a destroy failed: the first one. What the failed stack depends on is left as it
            is.
    """
    stacks: Sequence[StackRun] = ()
    try:
        prepare(run, "down")
        stacks = selected(run, downwards=True)[::-1]
        run.before_down(stacks)
        deployed = [stack for stack in stacks if stack.state.deployed]
        if not deployed:
            return conclude(run, stacks, NOTHING)
        with run.stage("planning"):
            plan_stacks(run, deployed, destroy=True)
            for stack in deployed:
                if stack.error is not None:
                    raise stack.error
                run.judge(stack)
        picture = tuple(stack.plan for stack in deployed if stack.plan is not None)
        for plan in picture:
            run.emit_plan(plan)
        if not run.ask(run.options.confirm, picture):
            return conclude(run, stacks, DECLINED)
        with run.stage("destroying"):
            run_stacks(run, deployed, lambda stack: _take_down(run, stack), downwards=True)
    except LabError as error:
        conclude(run, stacks, error=error)
        raise
    return conclude(run, stacks, DONE)


def _take_down(run: Run, stack: StackRun) -> None:
    apply_and_read(run, stack)
    run.destroyed(stack)
    stack.result = DESTROYED
