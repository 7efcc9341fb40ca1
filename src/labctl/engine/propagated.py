"""Plans a stack as if its upstreams had been applied, in a scratch folder that is removed afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace

from labctl.engine.run import Run, StackRun
from labctl.engine.session import state_content
from labctl.engine.workspace import scratch_terraform
from labctl.model.plan import PlanSummary, StackPlan, StackStatus, parse_plan
from labctl.model.propagation import UNKNOWN, PlannedOutputs, planned_outputs, propagate


def plan_propagated(run: Run, stack: StackRun, upstreams: Mapping[str, PlannedOutputs]) -> tuple[StackPlan, PlannedOutputs]:
    """The stack's plan and what its outputs would be. Never to be applied.

    Args:
        run: The run.
        stack: The stack.
        upstreams: The planned outputs of every stack that it reads.

    Raises:
        LabError: Terraform failed; its error names the stack.
    """
    folder = run.journal.folder / "scratch" / stack.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        document = propagate(json.loads(stack.stack.json.read_text()), upstreams)
        (folder / "cdk.tf.json").write_text(json.dumps(document))
        content = state_content(run.session, run.paths, stack.name, stack.layer)
        if content is not None:
            (folder / "terraform.tfstate").write_bytes(content)
        tool = scratch_terraform(run, stack, folder)
        run.stack_stage(stack.name, "planning")
        with run.interrupts.telling(tool.cancel):
            outcome = tool.plan(folder / "plan.tfplan")
            shown = tool.show_plan(folder / "plan.tfplan") if outcome.changes else {}
    finally:
        # Outputs and state may be sensitive; nothing of them stays.
        shutil.rmtree(folder, ignore_errors=True)
    summary = _without_placeholder(parse_plan(stack.name, shown))
    status = StackStatus.NO_CHANGES if summary.empty else StackStatus.CHANGES
    if not stack.state.deployed:
        status = StackStatus.NOT_DEPLOYED
    waits = tuple(name for name, outputs in upstreams.items() if not outputs.complete or not run.stack(name).state.deployed)
    outputs = planned_outputs(shown) if shown else PlannedOutputs(stack.state.outputs or {})
    return StackPlan(stack.name, stack.layer, status, summary, known_after=waits), outputs


def _without_placeholder(summary: PlanSummary) -> PlanSummary:
    return replace(summary, changes=tuple(change for change in summary.changes if change.address != UNKNOWN))
