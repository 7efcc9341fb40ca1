"""After a layer of the lab is applied: its contract is checked, its steps run."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.engine.journal import journals
from labctl.engine.labrun import LabRun
from labctl.engine.recovery import recover
from labctl.engine.run import StackRun
from labctl.engine.stages import read_remote_states
from labctl.engine.steps.foundation import foundation_steps
from labctl.engine.steps.platform import platform_steps
from labctl.engine.steps.services import services_steps
from labctl.engine.steps.vault import KEYS, OPERATOR_KEYS
from labctl.model.contracts import Contract, FoundationContract, PlatformContract, ServicesContract, check_outputs
from labctl.model.errors import LabError
from labctl.model.leftovers import known_destroyed

STORE_PATIENCE_S = 60.0


def check_contract(stack: StackRun) -> Contract:
    """The stack's contract, filled with its real outputs.

    Raises:
        AdapterError: An output is missing, extra or breaks a rule.
    """
    return check_outputs(stack.layer, stack.state.outputs or {})


def finish(run: LabRun, stack: StackRun) -> list[str]:
    """Checks the stack's contract and runs its layer's steps; returns what these changed, a line each.

    Raises:
        LabError: The contract is broken, or a step failed.
    """
    contract = check_contract(stack)
    run.stack_stage(stack.name, "steps")
    if isinstance(contract, PlatformContract):
        with stack.timed("steps"):
            return platform_steps(run, contract)
    if isinstance(contract, ServicesContract):
        with stack.timed("steps"):
            return services_steps(run, contract, applied=stack.applied)
    if not isinstance(contract, FoundationContract):
        return []
    states_known = run.session is not None
    with stack.timed("steps"):
        changes = foundation_steps(run, contract)
        if changes or not states_known:
            read_remote_states(run, STORE_PATIENCE_S)
    return changes


def forget_vault(run: LabRun) -> None:
    """The Vault is gone with its guest. Its keys are kept aside: a backup of it may still need them."""
    run.keyring.retire((OPERATOR_KEYS, KEYS))
    run.session = None


def all_gone(run: LabRun, stacks: Sequence[StackRun]) -> bool:
    """Whether these stacks, whose states cannot be read, have nothing left: an earlier `down` was cut off after the Vault went.

    The journal must say that each was destroyed, and the hypervisor must have no other guest of the lab than foundation's.
    """
    kept = list(journals(run.paths.runs, but=run.journal.run_id))
    if not all(known_destroyed(kept, stack.name) for stack in stacks):
        return False
    own = run.stack("foundation").state.vmids
    tags = {"labctl", run.lab.name}
    return all(guest.vmid in own for guest in run.hypervisor.resources() if tags <= set(guest.tags))


def revive(run: LabRun) -> None:
    """Brings Vault and object store back to life, as after a reboot: what lies in the bucket must be read before a `down`.

    Else foundation would be destroyed under guests that nobody remembers. A guest that is off is started: somebody stopped it, or
    an `up` was cut off before that.
    """
    contract = check_contract(run.stack("foundation"))
    assert isinstance(contract, FoundationContract)
    try:
        for name, guest in contract.guests.items():
            if run.hypervisor.status(guest.vmid).status != "running":
                run.say(f"starting guest {name}", "foundation", kind="step")
                run.hypervisor.start(guest.vmid)
        foundation_steps(run, contract)
        read_remote_states(run, STORE_PATIENCE_S)
    except LabError as error:
        error.hint = f"{error.hint} Nothing was destroyed: the states of the layers above foundation cannot be read.".strip()
        raise
    recover(run)
