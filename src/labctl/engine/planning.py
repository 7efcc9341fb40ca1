"""Plans: one saved plan a stack, and the picture of all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from labctl.engine.journal import PLAN_SUFFIX
from labctl.engine.locks import free_dead_lock
from labctl.engine.propagated import plan_propagated
from labctl.engine.run import Run, StackRun
from labctl.engine.workspace import terraform
from labctl.model.errors import LabError
from labctl.model.inventory import Foreign, foreign_guests
from labctl.model.plan import PlanSummary, StackPlan, StackStatus, parse_plan
from labctl.model.policy import evaluate, planned_vmids, refuse
from labctl.model.propagation import planned_outputs


def plan_stacks(run: Run, stacks: Sequence[StackRun], *, destroy: bool = False) -> None:
    """Plans all stacks at once; then, in order, those again whose upstreams are about to change.

    Raises:
        LabError: A plan failed; the first stack's error, the others are reported.
    """
    ready = [stack for stack in stacks if _upstreams_are_up(run, stack)]
    with ThreadPoolExecutor(max_workers=max(1, len(ready))) as pool:
        jobs = [pool.submit(plan_stack, run, stack, destroy=destroy) for stack in ready]
    errors = [error for job in jobs if (error := job.exception()) is not None]
    for error in errors[1:]:
        run.say(str(error), kind="error")
    if errors:
        raise errors[0]
    if not destroy:
        for stack in stacks:
            _follow_upstreams(run, stack)


def _upstreams_are_up(run: Run, stack: StackRun) -> bool:
    """Whether the stack can be planned on the states of its upstreams."""
    upstreams = stack.stack.dependencies
    return all(run.stack(name).state.deployed for name in upstreams) and (not upstreams or run.session is not None)


def _follow_upstreams(run: Run, stack: StackRun) -> None:
    """Plans the stack from its upstreams' planned outputs where these are not the ones in their states.

    The plan on the states stands where they are. A plan from planned outputs is a picture: it is made again before it is applied.
    """
    upstreams = [run.stack(name) for name in stack.stack.dependencies]
    if all(one.planned_outputs().same_as(one.state.outputs) for one in upstreams) and stack.plan is not None:
        return
    blocking = tuple(one.name for one in upstreams if one.plan and one.plan.status in (StackStatus.BLOCKED, StackStatus.ERROR))
    unreadable = run.session is None and any(one.state.deployed for one in upstreams)
    if blocking or unreadable:
        reason = (
            f"{' and '.join(blocking)} cannot be planned" if blocking else str(run.session_problem or "its state is unreadable")
        )
        names = tuple(one.name for one in upstreams)
        stack.plan = StackPlan(stack.name, stack.layer, StackStatus.BLOCKED, known_after=names, reason=reason)
        run.stack_stage(stack.name, str(stack.plan.status), f"{stack.plan.status}: {reason}", ended=True)
        return
    began = time.monotonic()
    stack.plan, stack.planned = plan_propagated(run, stack, {one.name: one.planned_outputs() for one in upstreams})
    stack.plan_file = None
    stack.seconds += time.monotonic() - began
    _tell(run, stack.plan)


def plan_stack(run: Run, stack: StackRun, *, destroy: bool = False) -> StackPlan:
    """Plans one stack into the run's folder and judges nothing yet."""
    began = time.monotonic()
    run.interrupts.check()
    free_dead_lock(run, stack)
    tool = terraform(run, stack)
    run.stack_stage(stack.name, "planning")
    file = run.journal.folder / f"{stack.name}{PLAN_SUFFIX}"
    with run.interrupts.telling(tool.cancel):
        outcome = tool.plan(file, destroy=destroy)
        shown = tool.show_plan(file) if outcome.changes else {}
    summary = parse_plan(stack.name, shown)
    status = StackStatus.CHANGES if not summary.empty else StackStatus.NO_CHANGES
    if not stack.state.deployed and not destroy and status is StackStatus.CHANGES:
        status = StackStatus.NOT_DEPLOYED
    stack.plan, stack.plan_file = StackPlan(stack.name, stack.layer, status, summary), file
    stack.planned = planned_outputs(shown) if shown else None
    stack.seconds += time.monotonic() - began
    _tell(run, stack.plan)
    return stack.plan


def _tell(run: Run, plan: StackPlan) -> None:
    summary = plan.summary or PlanSummary(plan.stack)
    text = f"{plan.status}{describe(summary)}"
    run.stack_stage(plan.stack, str(plan.status), text, counts=counts_text(summary), ended=True)


def judge(run: Run, stack: StackRun) -> None:
    """Holds a stack's plan against the rules of `labctl.model.policy`.

    Raises:
        UserError: The plan breaks a rule.
    """
    if stack.plan is None or stack.plan.summary is None:
        return
    protected = [guest.name for guest in run.lab.guests()]
    violations = evaluate(
        stack.plan.summary,
        protected=protected,
        allowed=run.options.allow_destroy,
        foreign=_foreign(run, stack, stack.plan.summary),
        rules=run.lab.policy,
    )
    for one in violations:
        if one.warns:
            run.say(f"[{one.rule}] {one.sentence}", stack.name, kind="warning")
    refuse(stack.name, violations)


def _foreign(run: Run, stack: StackRun, summary: PlanSummary) -> tuple[Foreign, ...]:
    creates = planned_vmids(summary)
    if not creates:
        return ()
    taken = {vmid for vmid in creates if not run.hypervisor.vmid_free(vmid)}
    return foreign_guests(creates, run.hypervisor.resources(), stack.state.vmids, taken)


def plan_or_report(run: Run, stacks: Sequence[StackRun]) -> bool:
    """As `plan_stacks` and `judge`, but a failed stack becomes an entry of the picture. Says whether all went well."""
    fine = True
    try:
        plan_stacks(run, stacks)
    except LabError as error:
        fine = False
        run.say(str(error), kind="error", hint=error.hint)
    for stack in stacks:
        if stack.plan is None:
            stack.plan = StackPlan(stack.name, stack.layer, StackStatus.ERROR, reason="the plan failed")
    for stack in stacks:
        try:
            judge(run, stack)
        except LabError as error:
            run.say(f"{error.message}", stack.name, kind="warning", hint=error.hint)
    return fine and all(stack.plan and stack.plan.status is not StackStatus.BLOCKED for stack in stacks)


def counts_text(summary: PlanSummary) -> str:
    """`+3 ~1 ±1 -2`, without the zeros; `←`, `→` and `.` for what is imported, moved and forgotten."""
    signs = {"add": "+", "change": "~", "replace": "±", "destroy": "-", "import": "←", "move": "→", "forget": "."}
    return " ".join(f"{signs[name]}{count}" for name, count in summary.counts().items() if count)


def describe(summary: PlanSummary) -> str:
    """The counts in words, for a line of text."""
    parts = [f"{count} to {word}" for word, count in summary.counts().items() if count]
    if not parts and summary.outputs:
        parts = [f"{len(summary.outputs)} outputs"]
    return f" ({', '.join(parts)})" if parts else ""
