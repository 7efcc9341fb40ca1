"""`labctl plan`: what `up` would change."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.engine.planning import plan_stacks
from labctl.engine.preparing import prepare, selected
from labctl.engine.run import Run, StackRun
from labctl.engine.savedplan import save_plan
from labctl.model.errors import LabError
from labctl.model.plan import StackPlan, StackStatus


@dataclass(frozen=True, slots=True)
class Picture:
    """All plans of a run. `fine` is False where one could not be made; `saved` is the run's id where they are kept."""

    plans: tuple[StackPlan, ...]
    fine: bool
    saved: str = ""

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        return any(plan.status is not StackStatus.NO_CHANGES for plan in self.plans)


def plan(run: Run) -> Picture:
    """Plans the selected stacks; one that fails is an entry of the picture.

    Raises:
        LabError: A stage before the plans failed.
    """
    prepare(run, "plan")
    stacks = selected(run, downwards=False)
    with run.stage("planning"):
        plan_stacks(run, stacks)
    for stack in stacks:
        _tell(run, stack)
    plans = tuple(stack.plan for stack in stacks if stack.plan is not None)
    for one in plans:
        run.emit_plan(one)
    run.emit_picture(plans)
    saved = save_plan(run, stacks) if run.options.save else ""
    return Picture(plans, saved=saved, fine=not any(one.status in (StackStatus.BLOCKED, StackStatus.ERROR) for one in plans))


def _tell(run: Run, stack: StackRun) -> None:
    """The error of a plan that could not be made, and what the rules say of one that could."""
    if stack.error is not None:
        run.say(stack.error.message, stack.name, kind="error", hint=stack.error.hint)
        return
    try:
        run.judge(stack)
    except LabError as error:
        run.say(error.message, stack.name, kind="warning", hint=error.hint)
