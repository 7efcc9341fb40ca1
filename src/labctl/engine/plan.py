"""`labctl plan`: what `up` would change."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.engine.planning import plan_or_report
from labctl.engine.run import Run
from labctl.engine.stages import selected
from labctl.engine.up import PREPARE
from labctl.model.plan import StackPlan, StackStatus


@dataclass(frozen=True, slots=True)
class Picture:
    """All plans of a run. `fine` is False where one could not be made."""

    plans: tuple[StackPlan, ...]
    fine: bool

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        return any(plan.status is not StackStatus.NO_CHANGES for plan in self.plans)


def plan(run: Run) -> Picture:
    """Plans the selected layers; a stack that fails is an entry of the picture.

    Raises:
        LabError: A stage before the plans failed.
    """
    for name, stage in PREPARE:
        with run.stage(name):
            stage(run)
    stacks = selected(run, downwards=False)
    with run.stage("planning"):
        fine = plan_or_report(run, stacks)
    plans = tuple(stack.plan for stack in stacks if stack.plan is not None)
    for one in plans:
        run.emit_plan(one)
    run.emit_picture(plans)
    for stack in stacks:
        if stack.plan_file is not None:
            stack.plan_file.unlink(missing_ok=True)
    return Picture(plans, fine)
