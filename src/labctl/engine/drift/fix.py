"""`labctl drift fix`: applies one resource again that was changed outside, where that touches nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.engine.applying import apply_and_read
from labctl.engine.journal import PLAN_SUFFIX
from labctl.engine.labrun import LabRun
from labctl.engine.preparing import prepare
from labctl.engine.run import StackRun
from labctl.engine.workspace import terraform
from labctl.model.drift import Finding, Kind
from labctl.model.drift.stack import stack_findings
from labctl.model.errors import UserError, nearest
from labctl.model.plan import Action, PlanSummary, StackPlan, StackStatus, parse_plan
from labctl.model.state import StackState


def fix(run: LabRun, name: str) -> bool:
    """Applies the resource again; says whether it was, False where that was declined.

    Args:
        run: The run.
        name: Its address, or `STACK:ADDRESS`.

    Raises:
        UserError: The address is unknown, nothing drifted there, or more than this one change would be applied.
        LabError: A stage before, or Terraform, failed.
    """
    prepare(run, "fix")
    states = {stack.name: stack.state for stack in run.stacks}
    if run.session_problem is not None and not _named(states, name):
        # It may well be in one of the states that cannot be read.
        raise run.session_problem
    stack_name, address = find_address(states, name)
    stack = run.stack(stack_name)
    with run.stage(f"planning {address}"):
        summary = _plan(run, stack, address)
    plan = StackPlan(stack.name, stack.layer, StackStatus.CHANGES, summary)
    stack.plan = plan
    run.judge(stack)
    run.emit_plan(plan)
    if not run.ask(run.options.confirm, (plan,)):
        return False
    with run.stage(f"applying {address}"):
        apply_and_read(run, stack)
    run.stack_stage(stack.name, "applied", ended=True)
    return True


def _plan(run: LabRun, stack: StackRun, address: str) -> PlanSummary:
    if run.gone(stack) or not run.refreshes(stack):
        raise UserError("its guest is gone or off", where=address, hint=_by_up(stack))
    run.mend(stack)
    file = run.journal.folder / f"{stack.name}{PLAN_SUFFIX}"
    tool = terraform(run, stack)
    run.stack_stage(stack.name, "planning")
    with stack.timed("plan"), run.interrupts.telling(tool.cancel):
        tool.plan(file, targets=[address])
        shown = tool.show_plan(file)
    stack.plan_file = file
    summary = parse_plan(stack.name, shown)
    refuse_more(stack.layer, address, summary, stack_findings(shown, stack=stack.name, layer=stack.layer))
    return summary


def refuse_more(layer: str, address: str, summary: PlanSummary, findings: tuple[Finding, ...]) -> None:
    """Stops where the plan is not one change in place that takes back what was changed outside, and nothing else.

    Args:
        layer: The layer of the resource's stack.
        address: The resource that the plan is for.
        summary: The plan.
        findings: What it says of drift.

    Raises:
        UserError: It says what would be touched, and what to do.
    """
    by_up = f"`labctl up --layer {layer}` shows all of it, and asks."
    own = [finding for finding in findings if finding.id == address]
    if not any(finding.kind is not Kind.PENDING for finding in own):
        raise UserError("nothing drifted there", where=address, hint=by_up if own else "`labctl drift` shows what did.")
    if any(finding.kind is not Kind.CHANGED for finding in own):
        what = "it was deleted" if own[0].kind is Kind.MISSING else "the code changed there too, and that was never applied"
        raise UserError(f"{what}: this takes more than applying it again", where=address, hint=by_up)
    others = sorted(change.address for change in summary.changes if change.address != address)
    if others:
        raise UserError(f"applying it again would touch {', '.join(others)} too", where=address, hint=by_up)
    if any(change.action is not Action.UPDATE for change in summary.changes):
        raise UserError("applying it again would replace it", where=address, hint=by_up)


def _by_up(stack: StackRun) -> str:
    return f"`labctl up --layer {stack.layer}` shows all of it, and asks."


def find_address(states: Mapping[str, StackState], name: str) -> tuple[str, str]:
    """The stack and the address that `name` is, by stack name → state.

    Raises:
        UserError: No state has it, or several do.
    """
    found = _named(states, name)
    if not found:
        known = {address for state in states.values() for address in state.addresses}
        raise UserError(f"no state has {name!r}", hint=nearest(name, known))
    if len(found) > 1:
        names = ", ".join(f"{stack}:{address}" for stack, address in found)
        raise UserError(f"{name!r} is in several stacks", hint=f"Name one of {names}.")
    return found[0]


def _named(states: Mapping[str, StackState], name: str) -> list[tuple[str, str]]:
    return [
        (stack, address)
        for stack, state in states.items()
        for address in sorted(state.addresses)
        if name in (address, f"{stack}:{address}")
    ]
