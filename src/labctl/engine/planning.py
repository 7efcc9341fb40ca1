"""Plans: one saved plan a stack, and the picture of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from labctl.adapters.terraform import TerraformError
from labctl.engine.initialising import initialise_ahead
from labctl.engine.journal import PLAN_SUFFIX
from labctl.engine.propagated import plan_propagated
from labctl.engine.retry import pass_by_itself
from labctl.engine.run import Run, StackRun
from labctl.engine.scheduler import run_schedule
from labctl.engine.workspace import forget_init, terraform
from labctl.model.errors import LabError
from labctl.model.plan import PlanSummary, StackPlan, StackStatus, parse_plan
from labctl.model.propagation import PlannedOutputs, planned_outputs
from labctl.model.schedule import Schedule


def plan_stacks(run: Run, stacks: Sequence[StackRun], *, destroy: bool = False) -> None:
    """Plans all stacks at once; then, in order, those again whose upstreams are about to change.

    A stack whose plan fails has its error in `error`, and the status `error`; what needs it is `blocked`.

    Raises:
        Interrupted: A signal came.
    """

    def first(stack: StackRun) -> None:
        if not destroy and run.readable(stack) and run.gone(stack):
            # Nothing is forgotten for the sake of a picture. `up` lets the state forget it before it plans.
            _try(run, stack, lambda: _picture(run, stack, {}))
        elif destroy or _upstreams_are_up(run, stack):
            _try(run, stack, lambda: plan_stack(run, stack, destroy=destroy), last=destroy)
        else:
            initialise_ahead(run, stack)

    with ThreadPoolExecutor(max_workers=run.parallelism) as pool:
        list(pool.map(first, stacks))
    run.interrupts.check()
    if destroy:
        return
    schedule = Schedule(run.graph, [stack.name for stack in stacks], limit=run.parallelism)

    def follow(name: str) -> bool:
        stack = run.stack(name)
        _try(run, stack, lambda: _follow_upstreams(run, stack))
        return True

    run_schedule(schedule, follow, lambda: bool(run.interrupts.count))
    run.interrupts.check()


def _try(run: Run, stack: StackRun, work: Callable[[], object], *, last: bool = True) -> None:
    try:
        work()
    except LabError as error:
        stack.error = error
        stack.plan = StackPlan(stack.name, stack.layer, StackStatus.ERROR, reason=error.message)
        if last or not _may_be_mended_upstream(stack):
            run.stack_stage(stack.name, str(StackStatus.ERROR), ended=True)


def _may_be_mended_upstream(stack: StackRun) -> bool:
    """Whether a plan that failed on the states as they are may succeed on what its upstreams will publish: a new output, say."""
    return isinstance(stack.error, TerraformError) and stack.error.lock is None and bool(stack.stack.upstreams)


def _upstreams_are_up(run: Run, stack: StackRun) -> bool:
    """Whether the stack can be planned on the states of those that it reads."""
    return run.readable(stack) and all(run.stack(name).state.deployed for name in stack.stack.upstreams)


def _follow_upstreams(run: Run, stack: StackRun) -> None:
    """Plans the stack from its upstreams' planned outputs where these are not the ones in their states.

    The plan on the states stands where they are. A plan from planned outputs is a picture: it is made again before it is applied.
    """
    blocking = tuple(name for name in stack.stack.dependencies if _cannot_be_planned(run.stack(name)))
    upstreams = [run.stack(name) for name in stack.stack.upstreams]
    unchanged = all(one.planned_outputs().same_as(one.state.outputs) for one in upstreams)
    if stack.error is not None:
        if unchanged or blocking or not _may_be_mended_upstream(stack):
            raise stack.error
        stack.error = None
    if stack.plan is not None and unchanged and not blocking:
        return
    unreadable = not run.readable(stack) and any(one.state.deployed for one in upstreams)
    if blocking or unreadable:
        reason = f"{' and '.join(blocking)} cannot be planned" if blocking else run.unreadable_reason()
        names = tuple(one.name for one in upstreams)
        stack.plan = StackPlan(stack.name, stack.layer, StackStatus.BLOCKED, known_after=names, reason=reason)
        stack.plan_file, stack.blame = None, blocking[0] if blocking else ""
        run.stack_stage(stack.name, str(stack.plan.status), f"{stack.plan.status}: {reason}", ended=True)
        return
    _picture(run, stack, {one.name: one.planned_outputs() for one in upstreams})


def _picture(run: Run, stack: StackRun, upstreams: Mapping[str, PlannedOutputs]) -> None:
    stack.plan, stack.planned = plan_propagated(run, stack, upstreams)
    stack.plan_file = None
    _tell(run, stack.plan)


def _cannot_be_planned(stack: StackRun) -> bool:
    return stack.plan is not None and stack.plan.status in (StackStatus.BLOCKED, StackStatus.ERROR)


def plan_stack(run: Run, stack: StackRun, *, destroy: bool = False) -> StackPlan:
    """Plans one stack into the run's folder and judges nothing yet.

    Raises:
        LabError: Terraform failed; its error names the stack.
    """
    run.interrupts.check()
    run.mend(stack)
    file = run.journal.folder / f"{stack.name}{PLAN_SUFFIX}"
    shown = _plan_patiently(run, stack, file, destroy=destroy)
    summary = parse_plan(stack.name, shown)
    status = StackStatus.CHANGES if not summary.empty else StackStatus.NO_CHANGES
    if not stack.state.deployed and not destroy and status is StackStatus.CHANGES:
        status = StackStatus.NOT_DEPLOYED
    stack.plan, stack.plan_file = StackPlan(stack.name, stack.layer, status, summary), file
    stack.planned = planned_outputs(shown) if shown else None
    _tell(run, stack.plan)
    return stack.plan


def _plan_patiently(run: Run, stack: StackRun, file: Path, *, destroy: bool) -> dict[str, Any]:
    """As `_plan_into`, also where the stack's folder must be set up anew, or something fails that passes by itself."""
    tries = 0
    while True:
        tries += 1
        try:
            return _plan_into(run, stack, file, destroy=destroy)
        except TerraformError as error:
            if error.wants_init and tries == 1:
                # Something else, as the plain CLI, has been at the folder since.
                forget_init(stack)
            elif not pass_by_itself(run, stack, error, tries):
                raise


def _plan_into(run: Run, stack: StackRun, file: Path, *, destroy: bool) -> dict[str, Any]:
    """Saves the plan; returns it as Terraform shows it, empty where it changes nothing."""
    tool = terraform(run, stack)
    run.stack_stage(stack.name, "planning")
    with stack.timed("plan"), run.interrupts.telling(tool.cancel):
        outcome = tool.plan(file, destroy=destroy, refresh=run.refreshes(stack))
        return tool.show_plan(file) if outcome.changes else {}


def _tell(run: Run, plan: StackPlan) -> None:
    summary = plan.summary or PlanSummary(plan.stack)
    text = f"{plan.status}{describe(summary)}"
    run.stack_stage(plan.stack, str(plan.status), text, counts=counts_text(summary), ended=True)


def counts_text(summary: PlanSummary) -> str:
    """`+3 ~1 ±1 -2`, without the zeros; `←`, `→` and `.` for what is imported, moved and forgotten."""
    signs = {"add": "+", "change": "~", "replace": "±", "destroy": "-", "import": "←", "move": "→", "forget": "."}
    return " ".join(f"{signs[name]}{count}" for name, count in summary.counts().items() if count)


def describe(summary: PlanSummary) -> str:
    """The counts in words, for a line of text."""
    parts = [f"{count} to {word}" for word, count in summary.counts().items() if count]
    if not parts and summary.outputs:
        parts = [f"{len(summary.outputs)} output{'s' if len(summary.outputs) > 1 else ''}"]
    return f" ({', '.join(parts)})" if parts else ""
