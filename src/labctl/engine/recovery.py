"""After a run that was cut off: lets the state learn what was made, and forget what is gone.

Nothing is destroyed here, and nothing is taken over that is not certainly the lab's own (`labctl.model.leftovers`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.adapters.terraform import Terraform
from labctl.engine.journal import PLAN_SUFFIX, journals
from labctl.engine.locks import free_dead_lock
from labctl.engine.paths import replace_file
from labctl.engine.run import StackRun
from labctl.engine.workspace import terraform
from labctl.model.errors import LabError
from labctl.model.leftovers import (
    IMAGE,
    KINDS,
    POOL,
    RULES,
    VM,
    Found,
    Leftover,
    Unfinished,
    candidates,
    entered,
    leftovers,
    unfinished,
)
from labctl.model.ownprovider import OWN_LAYERS
from labctl.model.state import parse_state, without

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun


def mend_state(run: LabRun) -> None:
    """Puts the local state back where a cut-off apply left it cut short, as on a full disk.

    Terraform writes that file in place. Its own backup is the state from before the apply; what the apply made since is then
    taken over as any leftover. The broken file is kept aside. Without a cut-off run the file is not touched. At every moment of
    this there is a state file: without one, the lab would count as never deployed.
    """
    file = run.paths.state / "foundation.tfstate"
    if not file.is_file():
        return
    before = cut_off(run, "foundation")
    if not before.runs or _serial(file) >= 0:
        return
    broken = file.with_name(f"{file.name}.broken-{before.runs[-1]}")
    shutil.copyfile(file, broken)
    kept = (run.paths.stacks / "foundation" / "errored.tfstate", file.with_name(f"{file.name}.backup"))
    newest = max(kept, key=_serial)
    if _serial(newest) >= 0:
        replace_file(file, newest.read_text())
    else:
        file.unlink()
    text = f"the state was cut short by run {before.runs[-1]}; what was there before it is put back ({broken.name} is kept)"
    run.say(text, "foundation", kind="warning")


def _serial(file: Path) -> int:
    """The state's serial; -1 where there is none, or none that can be read."""
    try:
        return parse_state(file.read_bytes(), str(file)).serial
    except (LabError, FileNotFoundError):
        return -1


def recover(run: LabRun) -> None:
    """Takes over what cut-off runs left of the stacks whose states can be read now; `up` does the others in their turn."""
    for stack in run.stacks:
        upstreams = stack.stack.dependencies
        if not upstreams or run.session is not None:
            take_over(run, stack)


def cut_off(run: LabRun, stack: str) -> Unfinished:
    """What runs that did not end well were creating, by the journal."""
    return unfinished(journals(run.paths.runs, but=run.journal.run_id), stack)


def take_over(run: LabRun, stack: StackRun) -> bool:
    """Enters into the stack's state what a cut-off run made; says whether there was anything. Takes out of it what is gone.

    Raises:
        LabError: The plan or the state's backend failed. The state is then as it was.
    """
    # Also where nothing is left: for a stack that is gone, `down` makes no plan that would run into its lock.
    free_dead_lock(run, stack)
    _forget_gone(run, stack)
    before = cut_off(run, stack.name)
    if not before.creates:
        return False
    tool = terraform(run, stack)
    file = run.journal.folder / f"{stack.name}.recovery{PLAN_SUFFIX}"
    try:
        with run.interrupts.telling(tool.cancel):
            kept = _untaint(run, stack, tool, before)
            tool.plan(file)
            planned = candidates(tool.show_plan(file), before.creates)
            found = leftovers(planned, _look(run, planned)) if planned else ()
            if found:
                enter(run, stack, tool, found)
    finally:
        file.unlink(missing_ok=True)
    for one in found:
        run.say(f"{one.address}: made by run {before.runs[-1]}, which was cut off; taken over", stack.name, kind="warning")
    if found or kept:
        stack.state = run.read_state(stack)
    return bool(found or kept)


def gone_with_guests(run: LabRun, stack: StackRun) -> frozenset[str]:
    """Addresses of what was set for guests, or ran on them, that are no longer on the hypervisor, by whomever they were deleted.

    A plan would fail on them: the provider notices that a guest is gone, but not that its firewall went with it; and what was on
    guest `docker` can be asked no more.
    """
    on_guests = _on_guests(run, stack)
    if not on_guests:
        return frozenset()
    seen = {guest.vmid for guest in (run.facts.guests if run.facts else run.hypervisor.resources())}
    missing = {vmid for vmid in on_guests.values() if vmid not in seen and run.hypervisor.vmid_free(vmid)}
    return frozenset(address for address, vmid in on_guests.items() if vmid in missing)


def _on_guests(run: LabRun, stack: StackRun) -> Mapping[str, int]:
    if stack.layer not in OWN_LAYERS:
        return stack.state.on_guests
    return dict.fromkeys(stack.state.addresses, run.lab.guest("docker").settings.vmid)


def _forget_gone(run: LabRun, stack: StackRun) -> None:
    gone = gone_with_guests(run, stack)
    if not gone:
        return
    on_guests = _on_guests(run, stack)
    tool = terraform(run, stack)
    _push(run, stack, tool, without(tool.state_pull(), gone))
    what = "ran on it" if stack.layer in OWN_LAYERS else "was set for it on the hypervisor"
    for vmid in sorted({on_guests[address] for address in gone}):
        run.say(f"guest {vmid} is no longer there; what {what} is forgotten", stack.name, kind="warning")
    stack.state = run.read_state(stack)


def _untaint(run: LabRun, stack: StackRun, tool: Terraform, before: Unfinished) -> list[str]:
    """A guest whose creation failed half-way is completed, not destroyed and made anew."""
    kept = [address for address in stack.state.tainted if address in before.creates and address.split(".")[0] == VM]
    for address in kept:
        tool.untaint(address)
        run.say(f"{address}: its creation was cut short; it is kept and completed", stack.name, kind="warning")
    return kept


def _look(run: LabRun, planned: Sequence[Mapping[str, Any]]) -> Found:
    pve = run.hypervisor
    by_type = {kind: [one["values"] for one in planned if one["type"] == kind] for kind in KINDS}
    guests = pve.resources()
    there = {guest.vmid for guest in guests}
    return Found(
        guests=guests,
        pools=pve.pools() if by_type[POOL] else (),
        images=frozenset(
            volume.volid
            for values in by_type[IMAGE]
            for volume in pve.volumes(values["node_name"], values["datastore_id"], values["content_type"])
        ),
        rules={int(v["vm_id"]): pve.firewall_rules(int(v["vm_id"])) for v in by_type[RULES] if v.get("vm_id") in there},
    )


def enter(run: LabRun, stack: StackRun, tool: Terraform, found: tuple[Leftover, ...]) -> None:
    """Enters into the stack's state what is there, as it is planned; the next plan then shows what differs.

    Raises:
        TerraformError: The state is locked, or changed meanwhile.
    """
    _push(run, stack, tool, entered(tool.state_pull(), found, run.toolchain.engine.version_text))


def _push(run: LabRun, stack: StackRun, tool: Terraform, document: Mapping[str, Any]) -> None:
    file = run.journal.folder / f"{stack.name}.recovered.tfstate"
    try:
        file.touch(mode=0o600)
        file.write_text(json.dumps(document))
        tool.state_push(file)
    finally:
        file.unlink(missing_ok=True)
