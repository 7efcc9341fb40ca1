"""`labctl down`: destroys layers in reverse order; what depends on a layer goes before it."""

from __future__ import annotations

from collections.abc import Callable

from labctl.engine.applying import apply_and_read, check_contract
from labctl.engine.interrupt import Interrupted
from labctl.engine.planning import judge, plan_stack
from labctl.engine.recovery import mend_state, recover, wait_for_earlier
from labctl.engine.report import DECLINED, DONE, FAILED, INTERRUPTED, NOTHING, Report, make_report
from labctl.engine.run import Run, StackRun
from labctl.engine.stages import (
    check_options,
    open_hypervisor,
    prepare_engine,
    read_remote_states,
    read_states,
    selected,
    synthesise,
)
from labctl.engine.steps.foundation import foundation_steps
from labctl.engine.steps.vault import KEYS, OPERATOR_KEYS
from labctl.engine.up import STORE_PATIENCE_S
from labctl.model.contracts import FoundationContract
from labctl.model.errors import LabError

PREPARE: tuple[tuple[str, Callable[[Run], None]], ...] = (
    ("checking the options", check_options),
    ("waiting for an earlier Terraform", wait_for_earlier),
    ("looking at the local state", mend_state),
    ("opening the target", open_hypervisor),
    ("synthesising the stacks", synthesise),
    ("preparing Terraform", prepare_engine),
    ("reading the states", read_states),
    ("looking for what a cut-off run left", recover),
)


def down(run: Run) -> Report:
    """Destroys the selected layers and what depends on them.

    A layer is touched only after all that depend on it are gone.

    Raises:
        LabError: A plan is refused by a rule, or a destroy failed; layers below are then left as they are.
    """
    for name, stage in PREPARE:
        with run.stage(name):
            stage(run)
    order = selected(run, downwards=True)[::-1]
    if run.session_problem is not None and any(stack.layer != "foundation" for stack in order):
        with run.stage("opening the states of the layers above foundation"):
            _revive(run)
            recover(run)
    stacks = [stack for stack in order if stack.state.deployed]
    try:
        with run.stage("planning"):
            for stack in stacks:
                plan_stack(run, stack, destroy=True)
                judge(run, stack)
        if not stacks:
            return make_report(run, NOTHING, order)
        picture = tuple(stack.plan for stack in stacks if stack.plan is not None)
        for plan in picture:
            run.emit_plan(plan)
        if not run.ask(run.options.confirm, picture):
            return make_report(run, DECLINED, order)
        for stack in stacks:
            with run.stage(f"destroying {stack.name}"):
                _take_down(run, stack)
    except LabError as error:
        make_report(run, INTERRUPTED if isinstance(error, Interrupted) or run.interrupts.count else FAILED, order)
        raise
    return make_report(run, DONE, order)


def _revive(run: Run) -> None:
    """Brings Vault and object store back to life, as after a reboot: what lies in the bucket must be read.

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


def _take_down(run: Run, stack: StackRun) -> None:
    stack.result = "failed"
    apply_and_read(run, stack)
    stack.result = "destroyed"
    if stack.layer == "foundation":
        # The Vault is gone with its guest. Its keys are kept aside: a backup of it may still need them.
        run.keyring.retire((OPERATOR_KEYS, KEYS))
        run.session = None
    run.stack_stage(stack.name, "destroyed", ended=True)
