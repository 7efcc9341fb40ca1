"""`labctl untaint`: takes Terraform's mark off a resource that it would otherwise destroy and make anew."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from labctl.engine.events import Event
from labctl.engine.labrun import LabRun
from labctl.engine.locks import free_dead_lock
from labctl.engine.preparing import prepare
from labctl.engine.workspace import terraform
from labctl.model.errors import UserError, nearest
from labctl.model.state import StackState


def untaint(run: LabRun, name: str) -> tuple[str, str]:
    """Untaints one resource; returns its stack and its address.

    Args:
        run: The run.
        name: A guest's name or a Terraform address.

    Raises:
        UserError: It is unknown, or not tainted; what is tainted is listed.
        LabError: A stage before, or Terraform, failed.
    """
    prepare(run, "untaint")
    states = {stack.name: stack.state for stack in run.stacks}
    if run.session_problem is not None and not any(name in _called(state) for state in states.values()):
        # It may well be in one of the states that cannot be read.
        raise run.session_problem
    stack_name, address = find_tainted(states, name)
    stack = run.stack(stack_name)
    with run.stage(f"untainting {address}"):
        free_dead_lock(run, stack)
        tool = terraform(run, stack)
        with run.interrupts.telling(tool.cancel):
            tool.untaint(address)
        stack.state = run.read_state(stack)
    run.say(f"{address} is no longer tainted: it stays as it is", stack_name)
    run.emit(Event("untaint", stack=stack_name, fields={"address": address}))
    return stack_name, address


def find_tainted(states: Mapping[str, StackState], name: str) -> tuple[str, str]:
    """The stack and the address of what is called `name`, by stack name → state.

    Raises:
        UserError: It is unknown, or not tainted; what is tainted is listed.
    """
    tainted = [address for state in states.values() for address in state.tainted]
    listed = f"Tainted: {', '.join(map(shlex.quote, tainted))}." if tainted else "Nothing is tainted."
    found = [(stack, address) for stack, state in states.items() for address in _called(state).get(name, ())]
    for stack, address in found:
        if address in states[stack].tainted:
            return stack, address
    if found:
        raise UserError(f"{name} is not tainted", where=found[0][0], hint=listed)
    known = [word for state in states.values() for word in (*state.guests.values(), *state.tainted)]
    raise UserError(f"no guest and no address in the states is called {name!r}", hint=f"{listed} {nearest(name, set(known))}")


def _called(state: StackState) -> dict[str, list[str]]:
    """The addresses by what they may be called: the address itself, or the name of the guest there."""
    found = {address: [address] for address in state.addresses}
    for address, guest in state.guests.items():
        found.setdefault(guest, []).append(address)
    return found
