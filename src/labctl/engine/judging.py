"""Holds a plan of the lab against the rules of `labctl.model.policy`."""

from __future__ import annotations

from labctl.engine.labrun import LabRun
from labctl.engine.run import StackRun
from labctl.model.inventory import Foreign, foreign_guests
from labctl.model.plan import PlanSummary
from labctl.model.policy import evaluate, planned_vmids, refuse
from labctl.model.violation import Violation


def judge(run: LabRun, stack: StackRun) -> None:
    """Holds a stack's plan against the rules of `labctl.model.policy`.

    Raises:
        UserError: The plan breaks a rule.
    """
    found = violations(run, stack)
    for one in found:
        if one.warns:
            run.say(f"[{one.rule}] {one.sentence}", stack.name, kind="warning")
    refuse(stack.name, found)


def violations(run: LabRun, stack: StackRun) -> list[Violation]:
    """The rules that a stack's plan breaks, and those that warn."""
    if stack.plan is None or stack.plan.summary is None:
        return []
    protected = [guest.name for guest in run.lab.guests()]
    return evaluate(
        stack.plan.summary,
        protected=protected,
        allowed=run.options.allow_destroy,
        foreign=_foreign(run, stack, stack.plan.summary),
        rules=run.lab.policy,
    )


def _foreign(run: LabRun, stack: StackRun, summary: PlanSummary) -> tuple[Foreign, ...]:
    creates = planned_vmids(summary)
    if not creates:
        return ()
    taken = {vmid for vmid in creates if not run.hypervisor.vmid_free(vmid)}
    return foreign_guests(creates, run.hypervisor.resources(), stack.state.vmids, taken)
