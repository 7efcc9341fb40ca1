"""`labctl import`: brings a guest that is already there under its declared address into the state. The guest is not touched."""

from __future__ import annotations

import json

from labctl.engine.drift.scratch import scratch_copy
from labctl.engine.journal import PLAN_SUFFIX
from labctl.engine.labrun import LabRun
from labctl.engine.recovery import enter
from labctl.engine.run import StackRun, Stage
from labctl.engine.stages import check_options, open_hypervisor, prepare_engine, read_states, synthesise
from labctl.engine.waiting import wait_for_earlier
from labctl.engine.workspace import terraform, write_scratch_state
from labctl.model.errors import UserError
from labctl.model.inventory import GuestEntry
from labctl.model.lab import GuestSpec
from labctl.model.leftovers import VM, Leftover, candidates, entered
from labctl.model.plan import Action, PlanSummary, StackPlan, StackStatus, parse_plan

PREPARE: tuple[Stage, ...] = (
    ("checking the options", check_options),
    ("waiting for an earlier Terraform", wait_for_earlier),
    ("opening the target", open_hypervisor),
    ("synthesising the stacks", synthesise),
    ("preparing Terraform", prepare_engine),
    ("reading the states", read_states),
)


def import_guest(run: LabRun, vmid: int) -> bool:
    """Enters the guest into the state; says whether it was, False where that was declined.

    Raises:
        UserError: No guest of the lab has this VMID, it is not there, it is in a state already, or the next apply would replace
            or destroy it.
        LabError: A stage before, or Terraform, failed.
    """
    spec = declared(run, vmid)
    for name, stage in PREPARE:
        with run.stage(name):
            stage(run)
    stack, address = _place(run, spec)
    _refuse_wrong(run, spec, _there(run, vmid))
    with run.stage(f"planning with guest {spec.name}"):
        found, plan = _preview(run, stack, address, vmid)
    _refuse_loss(plan.summary or PlanSummary(stack.name), spec)
    run.emit_plan(plan)
    if not run.ask(run.options.confirm, (plan,)):
        return False
    with run.stage(f"importing guest {spec.name}"):
        run.mend(stack)
        tool = terraform(run, stack)
        with run.interrupts.telling(tool.cancel):
            enter(run, stack, tool, found)
        stack.state = run.read_state(stack)
    run.say(f"{address} is in the state", stack.name)
    return True


def declared(run: LabRun, vmid: int) -> GuestSpec:
    """The guest of lab.yaml with this VMID.

    Raises:
        UserError: There is none; the lab's own are listed.
    """
    found = next((guest for guest in run.lab.guests() if guest.settings.vmid == vmid), None)
    if found is None:
        own = ", ".join(f"{guest.settings.vmid} {guest.name}" for guest in run.lab.guests())
        raise UserError(
            f"no guest of the lab has VMID {vmid}",
            where=run.paths.file.name,
            hint=f"Declared: {own}. Give the guest's number to one of them there first.",
        )
    return found


def _place(run: LabRun, spec: GuestSpec) -> tuple[StackRun, str]:
    address = f"{VM}.{spec.name}"
    stack = next(one for one in run.stacks if spec.name in json.loads(one.stack.json.read_text())["resource"].get(VM, {}))
    if not run.readable(stack):
        raise run.session_problem or UserError("foundation is not up", hint="Run `labctl up --layer foundation` first.")
    if address in stack.state.addresses or spec.settings.vmid in stack.state.vmids:
        raise UserError(f"guest {spec.name} is in the state already", where=stack.name, hint="`labctl plan` shows what differs.")
    return stack, address


def _there(run: LabRun, vmid: int) -> GuestEntry:
    found = next((guest for guest in run.hypervisor.resources() if guest.vmid == vmid), None)
    if found is None:
        raise UserError(f"the hypervisor shows no guest with VMID {vmid}", hint="`labctl up` makes it.")
    return found


def _refuse_wrong(run: LabRun, spec: GuestSpec, found: GuestEntry) -> None:
    if found.kind != "qemu":
        raise UserError(f"VMID {found.vmid} is a container; {spec.name} is declared as a VM", hint="It is left alone.")
    if found.node != run.lab.node:
        raise UserError(
            f"guest {found.name or found.vmid} is on node {found.node}; the lab's is {run.lab.node}",
            hint="Migrate it there first.",
        )


def _preview(run: LabRun, stack: StackRun, address: str, vmid: int) -> tuple[tuple[Leftover, ...], StackPlan]:
    """What is to be entered, and what an apply would then do to the guest. Nothing of it is written anywhere.

    Not by `terraform import`: its read waits a quarter of an hour for an address of a guest whose declaration says not to wait.
    """
    content = run.state_content(stack)
    with scratch_copy(run, stack, "import") as tool, run.interrupts.telling(tool.cancel):
        file = tool.work_dir / f"plan{PLAN_SUFFIX}"
        tool.plan(file, targets=[address], lock=False)
        found = tuple(Leftover(one["address"], str(vmid), one) for one in candidates(tool.show_plan(file), {address}))
        state = entered(json.loads(content) if content else {}, found, run.toolchain.engine.version_text)
        write_scratch_state(run, stack, tool.work_dir, json.dumps(state).encode())
        tool.plan(file, targets=[address], lock=False)
        summary = parse_plan(stack.name, tool.show_plan(file))
    own = tuple(change for change in summary.changes if change.address == address)
    status = StackStatus.CHANGES if own else StackStatus.NO_CHANGES
    return found, StackPlan(stack.name, stack.layer, status, PlanSummary(stack.name, own))


def _refuse_loss(summary: PlanSummary, spec: GuestSpec) -> None:
    for change in summary.changes:
        if change.action in (Action.REPLACE, Action.DELETE):
            paths = ", ".join(sorted({str(path[0]) for path in change.replace_paths})) or "it"
            raise UserError(
                f"the next apply would replace guest {spec.name}, because of {paths}: it is not imported",
                where=change.address,
                hint="Let lab.yaml describe the guest as it is, or keep it out of the lab under another VMID.",
            )
