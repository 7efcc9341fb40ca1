"""Where a lab stands: read from the states and the hypervisor, without changing or starting anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.adapters.keys import Keyring
from labctl.engine.guestunits import unit_states
from labctl.engine.identity import identities
from labctl.engine.lab import OpenLab
from labctl.engine.run import Run
from labctl.engine.session import LOCAL_LAYER, LabSession, local_state, open_session, published, remote_state
from labctl.engine.target import TargetSession, running_target
from labctl.model.catalogue import GITLAB_ROOT, STORE_ROOT
from labctl.model.cloudinit import STATUS_COMMAND, Boot, ended_well, judge
from labctl.model.contracts import CONTRACTS
from labctl.model.errors import LabError, UserError, nearest
from labctl.model.guestfiles import CLOUD_INIT_STATUS
from labctl.model.lab import Lab
from labctl.model.ownprovider import OWN_LAYERS
from labctl.model.state import StackState
from labctl.synth import MANIFEST, Stack, read_manifest

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox
    from labctl.model.compose import ComposeState

AGENT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class LabStatus:
    """A lab's state of affairs; `problems` are sentences about what could not be read."""

    lab: str
    target: str
    layers: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """What `labctl status --json` prints."""
        problems = {"problems": list(self.problems)} if self.problems else {}
        return {"lab": self.lab, "target": self.target, "layers": list(self.layers), **problems}


def read_status(found: OpenLab, named: Sequence[Path] = ()) -> LabStatus:
    """Which layers are up, with their outputs and guests."""
    problems: list[str] = []
    stacks = stack_states(found, named, problems)
    guests = _guest_reader(found.lab, running_target(found.lab, found.paths), problems)
    layers: dict[str, dict[str, Any]] = {}
    for stack, state in stacks:
        if not state.deployed:
            continue
        layer = layers.setdefault(stack.layer, {"name": stack.layer, "stacks": [], "guests": []})
        outputs = dict(state.outputs or {})
        tainted = {"tainted": list(state.tainted)} if state.tainted else {}
        layer["stacks"].append({"name": stack.name, "status": "deployed", "outputs": outputs, **tainted})
        layer["guests"] += [guests(name, guest) for name, guest in outputs.get("guests", {}).items()]
        if stack.layer in OWN_LAYERS:
            layer.setdefault("services", []).extend(_compose_states(found, named, outputs, problems))
    return LabStatus(found.lab.name, found.lab.target.kind, tuple(layers.values()), tuple(problems))


def _compose_states(
    found: OpenLab, named: Sequence[Path], outputs: Mapping[str, Any], problems: list[str]
) -> list[dict[str, Any]]:
    """Each service with its address, and how its containers are: the worst of each."""
    from labctl.engine.dockerguest import docker_engine

    states: Mapping[str, ComposeState] | None = None
    try:
        with docker_engine(found, named) as engine:
            states = engine.projects()
    except LabError as error:
        problems.append(f"services: {error.told}")
    return [
        {"name": name, "address": address, **_worst((states or {}).get(name), known=states is not None)}
        for name, address in service_addresses(outputs).items()
    ]


def _worst(state: ComposeState | None, *, known: bool) -> dict[str, str]:
    if state is None or not state.services:
        return {"state": "missing" if known else "unknown", "health": "unknown"}
    lasting = [one for one in state.services.values() if one.state != "completed"] or list(state.services.values())
    worst = next((one for one in lasting if one.state != "running" or one.health in ("unhealthy", "starting")), lasting[0])
    return {"state": worst.state, "health": worst.health}


def service_addresses(outputs: Mapping[str, Any]) -> dict[str, str]:
    """Where each service that a stack of layer services or apps publishes is: its URL, else `host:port`."""
    if "app" in outputs:
        return {outputs["app"]: str(outputs["url"])}
    return {name: str(one["url"] or one["address"]) for name, one in outputs.get("endpoints", {}).items()}


def service_address(found: OpenLab, name: str, named: Sequence[Path] = ()) -> str:
    """Where a service or app is: its URL, else `host:port`.

    Raises:
        UserError: It is unknown, or not up.
    """
    known = found.lab.compose_projects
    if name not in known:
        raise UserError(f"the lab has no service {name!r}", hint=nearest(name, known))
    problems: list[str] = []
    for stack, state in stack_states(found, named, problems):
        addresses = service_addresses(state.outputs or {}) if stack.layer in OWN_LAYERS else {}
        if name in addresses:
            return addresses[name]
    raise UserError(" ".join(problems) or f"service {name!r} is not up", hint="" if problems else "Run `labctl up`.")


def stack_states(found: OpenLab, named: Sequence[Path], problems: list[str]) -> list[tuple[Stack, StackState]]:
    """Each stack with its state. What cannot be read is left out, and told in `problems`."""
    if not (found.paths.root / MANIFEST).is_file():
        return []
    foundation = local_state(found.paths, "foundation")
    states: dict[str, StackState] = {LOCAL_LAYER: foundation}
    stacks = read_manifest(found.paths.root)
    if foundation.deployed and "vault_address" in (foundation.outputs or {}):
        try:
            states |= _remote_states(found, foundation.outputs or {}, named, stacks)
        except LabError as error:
            problems.append(f"what stands on {LOCAL_LAYER} cannot be read: {error.told}")
    return [(stack, states[stack.name]) for stack in stacks if stack.name in states]


def _remote_states(
    found: OpenLab, foundation: Mapping[str, Any], named: Sequence[Path], stacks: Sequence[Stack]
) -> dict[str, StackState]:
    session = lab_session(found, foundation, named)
    try:
        names = [stack.name for stack in stacks if stack.layer != LOCAL_LAYER]
        return {name: remote_state(session, found.paths, name) for name in names}
    finally:
        session.close()


def lab_session(found: OpenLab, foundation: Mapping[str, Any], named: Sequence[Path] = ()) -> LabSession:
    """A session of a lab that is up.

    Raises:
        LabError: The Vault is sealed or out of reach, or the operator's key is not at hand.
    """
    from labctl.adapters.vault import Vault
    from labctl.engine.steps.vault import open_vault

    keyring, own = Keyring(found.paths.keys), identities(found.paths, named)
    vault = open_vault(Vault(published(foundation, "vault_address"), found.paths.authority), keyring, own)
    return open_session(found.lab, found.paths, vault, foundation)


def foundation_outputs(found: OpenLab) -> Mapping[str, Any]:
    """Foundation's outputs.

    Raises:
        UserError: Foundation is not up.
    """
    outputs = local_state(found.paths, "foundation").outputs
    if not outputs:
        raise UserError("layer foundation is not up", hint="Run `labctl up`.")
    return outputs


def read_outputs(found: OpenLab, layer: str, name: str | None, named: Sequence[Path] = ()) -> Any:
    """The outputs of a layer or stack, or one of them; of a layer of several stacks, those of each.

    Raises:
        UserError: The layer, stack or output is unknown, or not up.
    """
    own = [stack.name for stack in read_manifest(found.paths.root)] if (found.paths.root / MANIFEST).is_file() else []
    # Those of a lab that was never synthesised are none: it is not up either.
    known = list(dict.fromkeys((*CONTRACTS, *own)))
    if layer not in known:
        raise UserError(f"there is no layer or stack {layer!r}", hint=nearest(layer, known))
    problems: list[str] = []
    if layer == LOCAL_LAYER:
        states = {layer: local_state(found.paths, layer)}
    else:
        read = stack_states(found, named, problems)
        states = {stack.name: state for stack, state in read if layer in (stack.layer, stack.name)}
    if problems:
        raise UserError(" ".join(problems), where=f"layer {layer!r}")
    states = {stack: state for stack, state in states.items() if state.deployed}
    if not states:
        raise UserError(f"layer {layer!r} is not up", hint="Run `labctl up`.")
    several = {stack: dict(state.outputs or {}) for stack, state in states.items()}
    # A layer's only stack bears its name.
    outputs = several.get(layer, several)
    if name is None:
        return outputs
    if name not in outputs:
        raise UserError(f"layer {layer!r} has no output {name!r}", hint=nearest(name, outputs))
    return outputs[name]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is.

    Attributes:
        name: Its name for people.
        address: URL or `host:port`.
        access: How to get in, in a few words; may be empty.
        answers: Whether something answers there on the sandbox too.
    """

    name: str
    address: str
    access: str = ""
    answers: bool = False


_ENDPOINTS = {
    "vault_address": ("Vault", "labctl secrets list", True),
    "s3_endpoint": ("S3", f"labctl secrets get {STORE_ROOT}", True),
    "gitlab_url": ("GitLab", f"labctl secrets get {GITLAB_ROOT}", False),
    "registry_host": ("Registry", "", False),
    "docker_host": ("Docker", "", False),
}


def endpoints(run: Run) -> tuple[Endpoint, ...]:
    """Where Vault, S3, GitLab, Docker, services and apps are, as far as they are up, and how to get at them."""
    outputs: dict[str, Any] = {}
    for stack in run.stacks:
        outputs |= stack.state.outputs or {}
    found = [
        Endpoint(name, str(outputs[output]), access, answers)
        for output, (name, access, answers) in _ENDPOINTS.items()
        if output in outputs
    ]
    composed = [service_addresses(stack.state.outputs or {}) for stack in run.stacks if stack.layer in OWN_LAYERS]
    found += [Endpoint(name, address) for addresses in composed for name, address in addresses.items()]
    return tuple(found)


def _guest_reader(lab: Lab, target: TargetSession | None, problems: list[str]) -> Any:
    hypervisor = _connect(target)
    if hypervisor is None:
        problems.append(f"the {lab.target.kind} is not running")
    reachable = [hypervisor is not None]

    specs = {spec.name: spec for spec in lab.guests()}

    def read(name: str, guest: Mapping[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": name, **guest, "agent": "unknown", "cloud_init": "unknown", "services": {}}
        if hypervisor is None or not reachable[0]:
            return entry
        try:
            answers = hypervisor.agent_ping(int(guest["vmid"]))
            entry["agent"] = "running" if answers else "not running"
            if answers:
                entry |= cloud_init(hypervisor, int(guest["vmid"]))
                units = specs[name].role.units(boots=lab.boots) if name in specs else ()
                entry["services"] = _services(hypervisor, int(guest["vmid"]), units)
        except LabError as error:
            reachable[0] = not getattr(error, "unreachable", False)
            problems.append(f"guest {name}: {error}")
        return entry

    return read


def _connect(target: TargetSession | None) -> Proxmox | None:
    if target is None:
        return None
    from labctl.adapters.proxmox import Proxmox

    return Proxmox.connect(target.endpoint, target.token_id, target.token, target.ca_file)


def cloud_init(hypervisor: Proxmox, vmid: int) -> dict[str, Any]:
    """cloud-init's verdict, and what there is to say about it."""
    if ended_well(hypervisor.file_read(vmid, CLOUD_INIT_STATUS, missing_ok=True)):
        return {"cloud_init": str(Boot.DONE)}
    result = hypervisor.exec(vmid, STATUS_COMMAND, timeout_s=AGENT_TIMEOUT_S)
    status = judge(result.exit_code, result.out)
    said = [status.stage] if status.stage else list(status.errors or status.complaints)
    # Done with complaints is done; what they are stands beside it.
    word = Boot.DONE if status.boot is Boot.DEGRADED else status.boot
    return {"cloud_init": str(word), **({"cloud_init_detail": said} if said else {})}


def _services(hypervisor: Proxmox, vmid: int, units: Sequence[str]) -> dict[str, str]:
    """The state of each unit."""
    found = unit_states(hypervisor, vmid, units, AGENT_TIMEOUT_S) if units else ()
    return {unit.name: unit.state for unit in found}
