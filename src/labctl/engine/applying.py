"""Applies saved plans, and reads what came of them."""

from __future__ import annotations

from contextlib import suppress

from labctl.adapters.terraform import Complaint, ResourceProgress
from labctl.adapters.terraform import Event as TerraformEvent
from labctl.engine.events import Event
from labctl.engine.planning import counts_text
from labctl.engine.run import Run, StackRun
from labctl.engine.workspace import terraform
from labctl.model.errors import LabError
from labctl.model.plan import Action, PlanSummary


def apply_and_read(run: Run, stack: StackRun) -> None:
    """Applies the stack's saved plan and reads its state again, also where the apply failed half-way.

    A stack without a saved plan is one that was never deployed, of a project that allows that: it is planned and applied at once.

    Raises:
        LabError: The apply failed; what it had made is in the state.
    """
    run.paths.require_room()
    try:
        with stack.timed("apply"):
            _apply(run, stack)
    except LabError:
        # Why the apply failed is what counts, not that the state cannot be read after it.
        with suppress(LabError):
            stack.state = run.read_state(stack)
        raise
    stack.state = run.read_state(stack)


def _apply(run: Run, stack: StackRun) -> None:
    run.interrupts.check()
    summary = (stack.plan.summary if stack.plan else None) or PlanSummary(stack.name)
    # What a later run may take over, should this one be cut off: see `labctl.model.leftovers`.
    creates = [change.address for change in summary.changes if change.action in (Action.CREATE, Action.REPLACE)]
    tool = terraform(run, stack)
    run.stack_stage(stack.name, "applying", counts=counts_text(summary), creates=creates)

    def sink(event: TerraformEvent) -> None:
        _tell(run, stack.name, event)

    try:
        with run.interrupts.telling(tool.cancel):
            result = tool.apply(stack.plan_file, sink) if stack.plan_file else tool.apply_unplanned(sink)
    finally:
        if stack.plan_file is not None:
            # The plan holds every value of the stack; it is of no use after the apply.
            stack.plan_file.unlink(missing_ok=True)
    done = result.totals
    if stack.plan_file is None and done is not None:
        stack.unplanned = {"add": done.add, "change": done.change, "destroy": done.remove}
    stack.applied = True


def _tell(run: Run, stack: str, event: TerraformEvent) -> None:
    if isinstance(event, ResourceProgress) and event.kind == "apply" and event.action != "read":
        text = f"{event.address}: {_words(event)}" + (f" ({event.elapsed_s} s)" if event.elapsed_s else "")
        run.emit(Event("resource", text, stack, {"address": event.address, "action": event.action, "state": event.phase}))
    elif isinstance(event, Complaint) and not event.diagnostic.is_error:
        run.say(event.diagnostic.summary, stack, kind="warning")


_WORDS = {"create": ("creating", "created"), "update": ("changing", "changed"), "delete": ("destroying", "destroyed")}


def _words(event: ResourceProgress) -> str:
    doing, done = _WORDS.get(event.action, (event.action, f"{event.action} done"))
    return {"start": doing, "progress": f"still {doing}", "complete": done}.get(event.phase, f"{doing} failed")
