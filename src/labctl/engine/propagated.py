"""Plans a stack as if its upstreams had been applied, in a scratch folder that is removed afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from labctl.engine.run import Run, StackRun
from labctl.engine.workspace import scratch_folder, scratch_terraform, write_scratch_state
from labctl.model.plan import PlanSummary, StackPlan, StackStatus, parse_plan
from labctl.model.propagation import UNKNOWN, PlannedOutputs, planned_outputs, propagate


def plan_propagated(run: Run, stack: StackRun, upstreams: Mapping[str, PlannedOutputs]) -> tuple[StackPlan, PlannedOutputs]:
    """The stack's plan and what its outputs would be, without what is gone from the hypervisor. Never to be applied.

    Args:
        run: The run.
        stack: The stack.
        upstreams: The planned outputs of every stack that it reads, by stack.

    Raises:
        LabError: Terraform failed; its error names the stack.
    """
    with scratch_folder(stack, "planned") as folder, stack.timed("plan"):
        document = json.loads(stack.stack.json.read_text())
        by_data = {data: upstreams[name] for data, name in stack.stack.reads.items() if name in upstreams}
        (folder / "cdk.tf.json").write_text(json.dumps(propagate(document, by_data)))
        content = run.state_content(stack) if stack.state.serial >= 0 else None
        if content is not None:
            write_scratch_state(run, stack, folder, content)
        run.stack_stage(stack.name, "planning")
        tool = scratch_terraform(run, stack, folder)
        with run.interrupts.telling(tool.cancel):
            outcome = tool.plan(folder / "plan.tfplan", refresh=run.refreshes(stack))
            shown = tool.show_plan(folder / "plan.tfplan") if outcome.changes else {}
    summary = _without_placeholder(parse_plan(stack.name, shown))
    status = StackStatus.NO_CHANGES if summary.empty else StackStatus.CHANGES
    if not stack.state.deployed and status is StackStatus.CHANGES:
        status = StackStatus.NOT_DEPLOYED
    waits = tuple(name for name, outputs in upstreams.items() if not outputs.complete or not run.stack(name).state.deployed)
    outputs = planned_outputs(shown) if shown else PlannedOutputs(stack.state.outputs or {})
    return StackPlan(stack.name, stack.layer, status, summary, known_after=waits), outputs


def _without_placeholder(summary: PlanSummary) -> PlanSummary:
    return replace(summary, changes=tuple(change for change in summary.changes if change.address != UNKNOWN))
