"""Applies saved plans, reads what came of them, and runs a layer's steps."""

from __future__ import annotations

import time
from contextlib import suppress

from labctl.adapters.terraform import Complaint, ResourceProgress
from labctl.adapters.terraform import Event as TerraformEvent
from labctl.engine.events import Event
from labctl.engine.planning import counts_text
from labctl.engine.run import Run, StackRun
from labctl.engine.session import local_state, remote_state
from labctl.engine.workspace import terraform
from labctl.model.contracts import Contract, check_outputs
from labctl.model.errors import LabError
from labctl.model.plan import Action, PlanSummary


def apply_and_read(run: Run, stack: StackRun) -> None:
    """Applies the stack's saved plan and reads its state again, also where the apply failed half-way.

    Raises:
        LabError: The apply failed; what it had made is in the state.
    """
    run.paths.require_room()
    try:
        apply_stack(run, stack)
    except LabError:
        # Why the apply failed is what counts, not that the state cannot be read after it.
        with suppress(LabError):
            refresh_state(run, stack)
        raise
    refresh_state(run, stack)


def apply_stack(run: Run, stack: StackRun) -> None:
    """Applies the stack's saved plan.

    Raises:
        TerraformError: The apply failed; what it had made is in the state.
    """
    assert stack.plan is not None
    assert stack.plan_file is not None
    began = time.monotonic()
    run.interrupts.check()
    summary = stack.plan.summary or PlanSummary(stack.name)
    # What a later run may take over, should this one be cut off: see `labctl.model.leftovers`.
    creates = [change.address for change in summary.changes if change.action in (Action.CREATE, Action.REPLACE)]
    run.stack_stage(stack.name, "applying", counts=counts_text(summary), creates=creates)
    tool = terraform(run, stack)
    try:
        with run.interrupts.telling(tool.cancel):
            tool.apply(stack.plan_file, sink=lambda event: _tell(run, stack.name, event))
        stack.applied = True
    finally:
        stack.seconds += time.monotonic() - began
        # The plan holds every value of the stack; it is of no use after the apply.
        stack.plan_file.unlink(missing_ok=True)


def refresh_state(run: Run, stack: StackRun) -> None:
    """Reads the stack's state again."""
    if stack.layer == "foundation":
        stack.state = local_state(run.paths, stack.name)
    elif run.session is not None:
        stack.state = remote_state(run.session, run.paths, stack.name)


def check_contract(stack: StackRun) -> Contract:
    """The stack's contract, filled with its real outputs.

    Raises:
        AdapterError: An output is missing, extra or breaks a rule.
    """
    return check_outputs(stack.layer, stack.state.outputs or {})


def _tell(run: Run, stack: str, event: TerraformEvent) -> None:
    if isinstance(event, ResourceProgress) and event.kind == "apply":
        text = f"{event.address}: {_words(event)}" + (f" ({event.elapsed_s} s)" if event.elapsed_s else "")
        run.emit(Event("resource", text, stack, {"address": event.address, "action": event.action, "state": event.phase}))
    elif isinstance(event, Complaint) and not event.diagnostic.is_error:
        run.say(event.diagnostic.summary, stack, kind="warning")


_WORDS = {"create": ("creating", "created"), "update": ("changing", "changed"), "delete": ("destroying", "destroyed")}


def _words(event: ResourceProgress) -> str:
    doing, done = _WORDS.get(event.action, (event.action, f"{event.action} done"))
    return {"start": doing, "progress": f"still {doing}", "complete": done}.get(event.phase, f"{doing} failed")
