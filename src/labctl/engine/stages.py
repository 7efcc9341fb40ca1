"""The stages that a run over a lab begins with. Each does one thing to the run; `PREPARE` and `PREPARE_DOWN` order them."""

from __future__ import annotations

import json
from functools import partial

from labctl.engine.identity import ensure_authority, ensure_ssh_key, identities, public_ssh_key
from labctl.engine.labrun import LabRun
from labctl.engine.paths import LabPaths
from labctl.engine.preparing import take_stacks
from labctl.engine.recovery import mend_state, recover
from labctl.engine.run import Stage
from labctl.engine.session import local_state, open_session, published, remote_state
from labctl.engine.target import open_target
from labctl.engine.waiting import wait_for_earlier
from labctl.model.errors import LabError, UserError, nearest
from labctl.model.lab import Lab
from labctl.model.labrules import check_rule_stacks
from labctl.model.policy import check_allowed
from labctl.model.stackcontext import StackContext

VMID_CHECK, SPACE_CHECK = "vmid.", "space."


def check_options(run: LabRun) -> None:
    """Refuses names that the lab does not have, before anything is touched."""
    for layer in run.options.layers:
        if layer not in run.lab.layers:
            raise UserError(f"the lab has no layer {layer!r}", hint=nearest(layer, run.lab.layers))
    check_allowed(run.options.allow_destroy, [guest.name for guest in run.lab.guests()])
    identities(run.paths, run.options.identities)


def open_hypervisor(run: LabRun) -> None:
    """Starts the sandbox where it is the target, and connects to the API."""
    from labctl.adapters.proxmox import Proxmox

    run.paths.create()
    run.connect(open_target(run.lab, run.paths, run.say, run.guests), Proxmox.connect)


def check_hypervisor(run: LabRun, *, reading: bool = False) -> None:
    """Token, rights, node, datastores, bridge: what is wrong stops the run. VMIDs come later, when the states are known.

    Args:
        run: The run.
        reading: It changes nothing, and does with a token that only looks.
    """
    from labctl.adapters.proxmox import gather
    from labctl.model.preflight import checks, refusal

    run.facts = gather(run.hypervisor, run.lab)
    deployed = local_state(run.paths, "foundation").deployed
    # A lab that is up has its disks already: what they take is no longer to be free.
    later = (VMID_CHECK, SPACE_CHECK) if deployed else (VMID_CHECK,)
    verdicts = [check for check in checks(run.facts, run.lab) if not check.id.startswith(later)]
    problem = refusal(verdicts, reading=reading)
    if problem is not None:
        raise problem
    if deployed:
        return
    if reading and (lacking := refusal(verdicts)) is not None:
        run.say(f"{lacking.message}: what is planned cannot be applied", kind="warning", hint=lacking.hint)
    for check in verdicts:
        if check.verdict == "warn":
            run.say(f"{check.title} {check.detail}. {check.remedy}".rstrip(), kind="warning")


def check_vmids(run: LabRun) -> None:
    """Nobody else has a VMID of the lab. Guests of layers whose state cannot be read yet are known by the lab's tags."""
    from labctl.engine.recovery import cut_off
    from labctl.model.preflight import checks, refusal

    assert run.facts is not None
    ours = {vmid for stack in run.stacks for vmid in stack.state.vmids}
    unread = run.session is None and run.stack("foundation").state.deployed
    # What a cut-off run left is taken over before the plans, or refused with them: they are held against the same rule.
    if unread or any(cut_off(run, stack.name).creates for stack in run.stacks):
        tags = {"labctl", run.lab.name}
        ours |= {guest.vmid for guest in run.facts.guests if tags <= set(guest.tags)}
    problem = refusal([check for check in checks(run.facts, run.lab, ours) if check.id.startswith(VMID_CHECK)])
    if problem is not None:
        raise problem


def make_keys(run: LabRun) -> None:
    """The lab's own authority and labctl's SSH key: the certificate and the public half go into every guest."""
    deployed = local_state(run.paths, "foundation").deployed
    if ensure_authority(run.lab, run.paths, run.keyring, run.identities, deployed=deployed):
        run.say("made the lab's own certificate authority")
    if ensure_ssh_key(run.lab, run.paths, run.keyring, run.identities):
        run.say("made labctl's own SSH key")


def synthesise(run: LabRun) -> None:
    """The stacks as Terraform JSON; skipped when nothing changed."""
    from labctl.synth import synthesise as synthesise_stacks

    found = synthesise_stacks(stack_context(run.lab, run.paths), force=run.options.resynthesise)
    take_stacks(run, found.stacks)
    if not run.lab.boots and (run.lab.services.on() or run.lab.apps.on()):
        run.say("layers services and apps are left out: guests of this sandbox are appliances, which run no containers")
    check_rule_stacks(run.lab.policy, [stack.name for stack in run.stacks], run.paths.file.name)


def stack_context(lab: Lab, paths: LabPaths) -> StackContext:
    """What the stacks are made from."""
    return StackContext(
        lab=lab,
        authority_pem=paths.authority.read_text() if paths.authority.is_file() else "",
        state_dir=paths.state,
        outdir=paths.root,
        own_ssh_key=public_ssh_key(paths),
    )


def prepare_engine(run: LabRun) -> None:
    """The Terraform engine and the provider."""
    from labctl.engine.workspace import find_toolchain, progress_kind

    with run.interrupts.raising():
        run.use_toolchain(find_toolchain(run.paths, lambda text: run.say(text, kind=progress_kind(text))))


def read_states(run: LabRun) -> None:
    """What is deployed, from the states themselves. Opens the Vault where foundation is up and the Vault is unsealed."""
    _read_states(run)
    if run.session is not None or not run.stack("foundation").state.deployed:
        check_consents(run)


def check_consents(run: LabRun) -> None:
    """Refuses an address in --allow-destroy that no stack has. Without all states, nobody knows which there are.

    Raises:
        UserError: An address is unknown.
    """
    addresses = {address for stack in run.stacks for address in stack.state.addresses}
    for stack in run.stacks:
        resources = json.loads(stack.stack.json.read_text()).get("resource", {})
        addresses |= {f"{kind}.{name}" for kind, named in resources.items() for name in named}
    check_allowed(run.options.allow_destroy, [guest.name for guest in run.lab.guests()], addresses)


def _read_states(run: LabRun) -> None:
    foundation = run.stack("foundation")
    foundation.state = local_state(run.paths, "foundation")
    outputs = foundation.state.outputs or {}
    if not foundation.state.deployed or "vault_address" not in outputs:
        return
    try:
        open_lab_session(run)
        read_remote_states(run)
    except LabError as error:
        # Right after a reboot of the host, for one: `up` starts the guests and unseals the Vault before it needs the session.
        run.session, run.session_problem = None, error


def open_lab_session(run: LabRun) -> None:
    """Logs in to the Vault and reads the state bucket's credentials.

    Raises:
        LabError: The Vault is sealed or out of reach, or the operator's key is not at hand.
    """
    from labctl.adapters.vault import Vault
    from labctl.engine.steps.vault import open_vault

    outputs = run.outputs("foundation")
    vault = open_vault(Vault(published(outputs, "vault_address"), run.paths.authority), run.keyring, run.identities)
    run.session = open_session(run.lab, run.paths, vault, outputs)
    run.session_problem = None


def read_remote_states(run: LabRun, patience_s: float = 0.0) -> None:
    """The states in the bucket; a store that was just started gets `patience_s` to come to itself."""
    if run.session is None:
        return
    for stack in run.stacks:
        if stack.layer != "foundation":
            stack.state = remote_state(run.session, run.paths, stack.name, patience_s)


PREPARE: tuple[Stage, ...] = (
    ("checking the options", check_options),
    ("waiting for an earlier Terraform", wait_for_earlier),
    ("looking at the local state", mend_state),
    ("opening the target", open_hypervisor),
    ("checking the target", check_hypervisor),
    ("preparing the lab's keys", make_keys),
    ("synthesising the stacks", synthesise),
    ("preparing Terraform", prepare_engine),
    ("reading the states", read_states),
    ("checking the VMIDs", check_vmids),
)
PREPARE_PLAN: tuple[Stage, ...] = tuple(
    (name, partial(check_hypervisor, reading=True) if stage is check_hypervisor else stage) for name, stage in PREPARE
)
RECOVER: Stage = ("looking for what a cut-off run left", recover)
PREPARE_DOWN: tuple[Stage, ...] = (
    ("checking the options", check_options),
    ("waiting for an earlier Terraform", wait_for_earlier),
    ("looking at the local state", mend_state),
    ("opening the target", open_hypervisor),
    ("synthesising the stacks", synthesise),
    ("preparing Terraform", prepare_engine),
    ("reading the states", read_states),
    RECOVER,
)
