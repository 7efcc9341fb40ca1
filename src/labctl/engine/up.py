"""`labctl up`: brings the lab to what is described, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labctl.engine.applying import apply_and_read, check_contract
from labctl.engine.interrupt import Interrupted
from labctl.engine.planning import judge, plan_stack, plan_stacks
from labctl.engine.recovery import mend_state, recover, take_over, wait_for_earlier
from labctl.engine.report import DECLINED, DONE, FAILED, INTERRUPTED, NOTHING, Report, make_report
from labctl.engine.run import Run, StackRun
from labctl.engine.stages import (
    check_hypervisor,
    check_options,
    check_vmids,
    make_authority,
    open_hypervisor,
    prepare_engine,
    read_remote_states,
    read_states,
    selected,
    synthesise,
)
from labctl.engine.steps import foundation
from labctl.model.contracts import Contract, FoundationContract
from labctl.model.errors import LabError, UserError
from labctl.model.plan import StackPlan, StackStatus
from labctl.model.scope import beyond

STORE_PATIENCE_S = 60.0

PREPARE: tuple[tuple[str, Callable[[Run], None]], ...] = (
    ("checking the options", check_options),
    ("waiting for an earlier Terraform", wait_for_earlier),
    ("looking at the local state", mend_state),
    ("opening the target", open_hypervisor),
    ("checking the target", check_hypervisor),
    ("preparing the lab's authority", make_authority),
    ("synthesising the stacks", synthesise),
    ("preparing Terraform", prepare_engine),
    ("reading the states", read_states),
    ("checking the VMIDs", check_vmids),
)

RECOVER = ("looking for what a cut-off run left", recover)


def up(run: Run) -> Report:
    """Applies the selected layers in order, with their steps.

    Raises:
        LabError: A stage, a plan, an apply, a contract or a step failed. What was done stays done; the next `up` goes on.
    """
    stacks: tuple[StackRun, ...] = ()
    changes: list[str] = []
    try:
        for name, stage in (*PREPARE, RECOVER):
            with run.stage(name):
                stage(run)
        stacks = selected(run, downwards=False)
        with run.stage("planning"):
            plan_stacks(run, stacks)
            for stack in stacks:
                judge(run, stack)
        if not _confirm(run, stacks):
            return make_report(run, DECLINED, stacks)
        for stack in stacks:
            with run.stage(f"applying {stack.name}"):
                changes += _bring_up(run, stack)
    except LabError as error:
        _blame(stacks)
        make_report(run, INTERRUPTED if isinstance(error, Interrupted) or run.interrupts.count else FAILED, stacks, changes)
        raise
    applied = any(stack.applied for stack in stacks)
    return make_report(run, DONE if applied or changes else NOTHING, stacks, changes)


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
    stack.result = "failed"
    if stack.plan is not None and stack.plan.status is StackStatus.BLOCKED and run.session is None:
        raise UserError(
            f"cannot be brought up by itself: {run.session_problem}",
            where=stack.name,
            hint="Without --only, `labctl up` brings up what it needs, too.",
        )
    if _is_stale(run, stack):
        confirmed = stack.plan
        take_over(run, stack)
        plan = plan_stack(run, stack)
        judge(run, stack)
        _stay_within(run, confirmed, plan)
    assert stack.plan is not None
    if stack.plan.summary is not None and not stack.plan.summary.empty:
        apply_and_read(run, stack)
    contract = check_contract(stack)
    changes = _steps(run, contract)
    stack.result = "applied" if stack.applied else "no changes"
    run.stack_stage(stack.name, "applied" if stack.applied else "up to date", ended=True)
    return changes


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


def _steps(run: Run, contract: Contract) -> list[str]:
    if not isinstance(contract, FoundationContract):
        return []
    run.stack_stage(foundation.LAYER, "steps")
    states_known = run.session is not None
    changes = foundation.foundation_steps(run, contract)
    if changes or not states_known:
        read_remote_states(run, STORE_PATIENCE_S)
    return changes


def _blame(stacks: Sequence[StackRun]) -> None:
    failed = next((stack.name for stack in stacks if stack.result == "failed"), "")
    for stack in stacks:
        if stack.result == "not started" and failed in stack.stack.dependencies:
            stack.result = f"blocked by {failed}"
