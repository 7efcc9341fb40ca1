"""`labctl up`: brings stacks to what is described, each after those that it needs."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.engine.applying import apply_and_read
from labctl.engine.executing import run_stacks
from labctl.engine.initialising import initialising
from labctl.engine.planning import plan_stack, plan_stacks
from labctl.engine.preparing import prepare, selected
from labctl.engine.report import Report, conclude
from labctl.engine.retry import pass_by_itself
from labctl.engine.run import Run, StackRun
from labctl.engine.savedplan import load_plan
from labctl.model.errors import LabError, UserError
from labctl.model.plan import StackPlan, StackStatus
from labctl.model.report import APPLIED, DECLINED, DONE, NO_CHANGES, NOTHING
from labctl.model.scope import beyond


def up(run: Run) -> Report:
    """Applies the selected stacks in order, with their steps.

    Raises:
        LabError: A stage, a plan, an apply, a contract or a step failed: the first one. What was done stays done, stacks that do
            not need the failed one were applied, and the next `up` goes on.
    """
    stacks: tuple[StackRun, ...] = ()
    changes: list[str] = []

    def bring_up(stack: StackRun) -> None:
        changes.extend(_bring_up(run, stack))

    try:
        prepare(run, "up")
        if run.options.saved_plan:
            stacks = load_plan(run)
            for stack in stacks:
                run.judge(stack)
        else:
            stacks = selected(run, downwards=False)
            with run.stage("planning"):
                _plan(run, stacks)
        if not _confirm(run, stacks):
            return conclude(run, stacks, DECLINED)
        with run.stage("applying"), initialising(run, [stack for stack in stacks if stack.plan and stack.plan.skipped]):
            run_stacks(run, stacks, bring_up)
    except LabError as error:
        conclude(run, stacks, error=error, changes=changes)
        raise
    applied = any(stack.applied for stack in stacks)
    return conclude(run, stacks, DONE if applied or changes else NOTHING, changes=changes)


def _plan(run: Run, stacks: Sequence[StackRun]) -> None:
    """Makes the picture. Nothing is applied where a part of it cannot be made, or breaks a rule."""
    if run.options.assume_yes and all(stack.state.serial < 0 for stack in stacks) and run.may_skip_picture:
        # The first deploy of everything: there is nothing to lose, and nobody who would look.
        for stack in stacks:
            stack.plan = StackPlan(stack.name, stack.layer, StackStatus.NOT_DEPLOYED, skipped=True)
        return
    plan_stacks(run, stacks)
    failed = [stack for stack in stacks if stack.error is not None]
    for stack in failed[1:]:
        run.say(str(stack.error), kind="error")
    if failed:
        failed[0].result = "failed"
        assert failed[0].error is not None
        raise failed[0].error
    for stack in stacks:
        run.judge(stack)


def _confirm(run: Run, stacks: Sequence[StackRun]) -> bool:
    """Asks once, with the picture of all plans; not at all where there is nothing to change."""
    picture = tuple(stack.plan for stack in stacks if stack.plan is not None)
    for plan in picture:
        run.emit_plan(plan)
    if all(plan.status in (StackStatus.NO_CHANGES, StackStatus.BLOCKED) for plan in picture):
        # A blocked stack is asked about when its plan is known: after a reboot of the host there is mostly nothing in it.
        return True
    return run.ask(run.options.confirm, picture)


def _bring_up(run: Run, stack: StackRun) -> list[str]:
    if stack.plan is not None and stack.plan.status is StackStatus.BLOCKED and not run.readable(stack):
        raise UserError(
            f"cannot be brought up by itself: {run.unreadable_reason()}",
            where=stack.name,
            hint="Without --only, `labctl up` brings up what it needs, too.",
        )
    if stack.plan is None or not stack.plan.skipped:
        if _is_stale(run, stack):
            run.take_over(stack)
            _plan_again(run, stack)
        _apply(run, stack)
    else:
        apply_and_read(run, stack)
    changes = run.finish(stack)
    stack.result = APPLIED if stack.applied else NO_CHANGES
    return changes


def _apply(run: Run, stack: StackRun) -> None:
    """Applies what is planned; where that failed for a reason that passes by itself, what is left of it, after a fresh plan."""
    tries = 0
    while stack.plan is not None and stack.plan.summary is not None and not stack.plan.summary.empty:
        tries += 1
        try:
            apply_and_read(run, stack)
        except LabError as error:
            if not pass_by_itself(run, stack, error, tries):
                raise
            _plan_again(run, stack)
        else:
            return


def _plan_again(run: Run, stack: StackRun) -> None:
    """Plans the stack on what is there now, and stays within what was confirmed."""
    confirmed = stack.plan
    plan = plan_stack(run, stack)
    run.judge(stack)
    _stay_within(run, confirmed, plan)


def _is_stale(run: Run, stack: StackRun) -> bool:
    """Whether the plan was made before something that it depends on changed, or not at all."""
    upstream_changed = any(run.stack(name).applied for name in stack.stack.dependencies)
    return stack.plan_file is None or upstream_changed


def _stay_within(run: Run, confirmed: StackPlan | None, actual: StackPlan) -> None:
    """Stops, or asks again, where the new plan does something that the confirmed picture does not cover."""
    more = beyond(confirmed, actual)
    if not more:
        return
    if confirmed is not None and confirmed.status is StackStatus.BLOCKED:
        _confirm_late(run, actual)
        return
    for sentence in more:
        run.say(sentence, actual.stack, kind="warning")
    if not run.ask(run.options.confirm_again, (actual,)):
        raise UserError(
            "the plan has changed since it was confirmed: " + "; ".join(more),
            where=actual.stack,
            hint="Run `labctl up` again to see and confirm the new plan.",
        )


def _confirm_late(run: Run, plan: StackPlan) -> None:
    """Asks for a stack that the picture could only name: its state was out of reach until foundation's steps were done."""
    run.emit_plan(plan)
    if not run.ask(run.options.confirm, (plan,)):
        raise UserError("declined; the layers below it are up", where=plan.stack, hint="Run `labctl up` again to go on.")
