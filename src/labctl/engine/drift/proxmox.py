"""The hypervisor against the lab: `look` reads both sides and compares."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labctl.model.drift.finding import AreaDrift
from labctl.model.drift.proxmox import AREA, Declared, Unmanaged, Written, compare, declared_by
from labctl.model.errors import LabError, sentences
from labctl.model.inventory import Release

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun
    from labctl.engine.run import StackRun


def look(run: LabRun, now: datetime | None = None, unmanaged: Unmanaged = "lab") -> AreaDrift:
    """What is on the hypervisor and should not be, or the other way round. Only reads; what fails is a problem, never an error.

    Args:
        run: The lab, with its target open and its states read as far as they can be.
        now: The time of the check (UTC); None: this machine's clock.
        unmanaged: Whether guests of others are findings (`drift.unmanaged` in lab.yaml).
    """
    began = time.monotonic()
    problems: list[str] = []
    try:
        declared = _declared(run, problems)
        found = _compared(run, declared, now or datetime.now(UTC), unmanaged)
    except LabError as error:
        found = AreaDrift(AREA, problems=(_sentence("the hypervisor", error),))
    return replace(found, problems=(*problems, *found.problems), seconds=round(time.monotonic() - began, 3))


def _compared(run: LabRun, declared: Declared, now: datetime, unmanaged: Unmanaged) -> AreaDrift:
    from labctl.adapters.proxmox.inventory import take_inventory

    return compare(take_inventory(run.hypervisor, declared), declared, now, unmanaged)


def _declared(run: LabRun, problems: list[str]) -> Declared:
    with_guests = {guest.layer for guest in run.lab.guests()}
    # Layers without guests have nothing on the hypervisor; a stack of the lab's own that has shows it in its state.
    written = [_written(run, stack, problems) for stack in run.stacks if stack.layer in with_guests or run.readable(stack)]
    return declared_by(run.lab, written, run.target.token_id, _release(run))


def _written(run: LabRun, stack: StackRun, problems: list[str]) -> Written:
    """A stack's state, or that it cannot be read: then its guests are known by lab.yaml and their tags only."""
    if not run.readable(stack):
        if _never_deployed(run):
            return Written(stack.name, stack.layer)
        problems.append(_blind(stack, run.unreadable_reason()))
        return Written(stack.name, stack.layer, readable=False)
    from labctl.engine.session import state_content

    try:
        # As it is stored: `run.state_content` leaves out what went with a guest that is gone, and that is what is looked for.
        content = state_content(run.session, run.paths, stack.name, stack.layer)
        document = json.loads(content) if content else None
    except (LabError, ValueError) as error:
        problems.append(_blind(stack, str(error)))
        return Written(stack.name, stack.layer, readable=False)
    return Written(stack.name, stack.layer, document)


def _never_deployed(run: LabRun) -> bool:
    """Whether there is no foundation: then there is no store either in which a state could lie."""
    from labctl.engine.session import LOCAL_LAYER, state_content

    return not any(state_content(None, run.paths, stack.name, LOCAL_LAYER) for stack in run.stacks if stack.layer == LOCAL_LAYER)


def _blind(stack: StackRun, why: str) -> str:
    return (
        f"the state of {stack.name} cannot be read ({why.rstrip('. ')}), so what is missing of it is not seen. "
        "`labctl status` says what to do."
    )


def _release(run: LabRun) -> Release | None:
    """The hypervisor's version; None where it cannot be asked, which its inventory then tells."""
    try:
        return run.hypervisor.version()
    except LabError:
        return None


def _sentence(what: str, error: LabError) -> str:
    return sentences(f"{what} could not be looked at: {error.message}", error.hint)
