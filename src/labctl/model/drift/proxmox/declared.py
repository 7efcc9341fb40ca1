"""Reads what a lab declares out of lab.yaml and the documents of its states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.model.drift.proxmox.world import Declared, DeclaredGuest, DeclaredThing, Origin
from labctl.model.inventory import GuestKind, Release
from labctl.model.lab import GuestSpec, Lab
from labctl.model.privileges import roles
from labctl.model.state import instances

_KINDS: dict[str, GuestKind] = {
    "proxmox_virtual_environment_vm": "qemu",
    "proxmox_virtual_environment_container": "lxc",
}
_FILES = ("proxmox_virtual_environment_file", "proxmox_download_file", "proxmox_virtual_environment_download_file")
_MAPPINGS = ("proxmox_hardware_mapping_pci", "proxmox_virtual_environment_hardware_mapping_pci")
_POOL = "proxmox_virtual_environment_pool"
_FIREWALL = "proxmox_virtual_environment_firewall_options"


@dataclass(frozen=True, slots=True)
class Written:
    """A stack's state as it is stored: None where there is none, or where it cannot be read.

    Attributes:
        stack: The stack.
        layer: Its layer.
        document: The state's JSON document.
        readable: Whether it could be looked for.
    """

    stack: str
    layer: str
    document: Mapping[str, Any] | None = None
    readable: bool = True


def declared_by(lab: Lab, states: Iterable[Written], token_id: str, release: Release | None = None) -> Declared:
    """Everything that the lab has on the hypervisor, or wants there.

    What a state has counts as the state says it: a change of lab.yaml that nobody has applied is not drift. What only lab.yaml
    has was never made; or, where its layer's state is unreadable, may have been.

    Args:
        lab: The lab.
        states: Its stacks' states.
        token_id: `user@realm!name` that the hypervisor is asked with.
        release: The hypervisor's version, by which its roles differ; None: unknown, and roles are not compared.
    """
    written = tuple(states)
    guests = {guest.vmid: guest for state in written for guest in _guests(state)}
    files = {file.name: file for state in written for file in _things(state, _FILES, "id")}
    unread = {state.layer for state in written if not state.readable}
    for spec in lab.guests():
        made = None if spec.layer in unread else False
        guests.setdefault(spec.settings.vmid, _wanted(lab, spec, made))
        snippet = _snippet(lab, spec, made)
        files.setdefault(snippet.name, snippet)
    image = _image(lab, made=None if "foundation" in unread else False)
    files.setdefault(image.name, image)
    mappings = {one.name: one for state in written for one in _things(state, _MAPPINGS, "name")}
    if lab.platform.docker.gpu:
        for end in ("vga", "audio"):
            origin = Origin(f"{_MAPPINGS[0]}.gpu_{end}", "platform", "platform", None if "platform" in unread else False)
            mappings.setdefault(f"{lab.name}-gpu-{end}", DeclaredThing(f"{lab.name}-gpu-{end}", origin))
    return Declared(
        lab=lab.name,
        node=lab.node,
        datastores=lab.datastores,
        guests=tuple(guests[vmid] for vmid in sorted(guests)),
        files=tuple(_served(file, lab) for file in files.values()),
        mappings=tuple(DeclaredThing(one.name, one.origin, "docker") for one in mappings.values()),
        pools=tuple(one for state in written for one in _things(state, (_POOL,), "pool_id")),
        firewall=lab.target.kind == "proxmox",
        token_id=token_id,
        roles={name: held for name, (held, _) in roles(lab, release).items()} if release else {},
    )


def _rows(state: Written) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Type, address and attributes of each managed resource."""
    for resource in (state.document or {}).get("resources", ()):
        if resource["mode"] == "managed":
            for address, _, instance in instances([resource]):
                yield str(resource["type"]), address, instance.get("attributes") or {}


def _guests(state: Written) -> Iterator[DeclaredGuest]:
    rows = tuple(_rows(state))
    walled = {int(values["vm_id"]) for kind, _, values in rows if kind == _FIREWALL and values.get("enabled")}
    for kind, address, values in rows:
        if kind in _KINDS and values.get("vm_id"):
            vmid = int(values["vm_id"])
            yield DeclaredGuest(
                vmid=vmid,
                name=str(values.get("name") or _host_name(values) or address.rpartition(".")[2]),
                node=str(values.get("node_name") or ""),
                origin=Origin(address, state.stack, state.layer),
                pool=str(values.get("pool_id") or ""),
                kind=_KINDS[kind],
                started=values.get("started") is not False,
                template=bool(values.get("template")),
                firewall=vmid in walled,
            )


def _host_name(values: Mapping[str, Any]) -> str:
    """A container's name lies deeper than a machine's."""
    first: Mapping[str, Any] = next(iter(values.get("initialization") or ()), {})
    return str(first.get("hostname") or "")


def _things(state: Written, kinds: tuple[str, ...], name: str) -> Iterator[DeclaredThing]:
    for kind, address, values in _rows(state):
        if kind in kinds and values.get(name):
            yield DeclaredThing(str(values[name]), Origin(address, state.stack, state.layer))


def _wanted(lab: Lab, spec: GuestSpec, made: bool | None) -> DeclaredGuest:
    origin = Origin(f"proxmox_virtual_environment_vm.{spec.name}", spec.layer, spec.layer, made)
    # Whether its firewall is on is asked of the state only: without one, nothing says that it was ever made.
    return DeclaredGuest(spec.settings.vmid, spec.name, lab.node, origin, pool=lab.name)


def _snippet(lab: Lab, spec: GuestSpec, made: bool | None) -> DeclaredThing:
    name = f"{lab.datastores.snippets}:snippets/{lab.name}-{spec.name}-user-data.yaml"
    return DeclaredThing(name, Origin(f"{_FILES[0]}.{spec.name}", spec.layer, spec.layer, made), spec.name)


def _image(lab: Lab, *, made: bool | None) -> DeclaredThing:
    name = f"{lab.datastores.images}:import/{lab.name}-{lab.foundation.image.file_name}"
    return DeclaredThing(name, Origin(f"{_FILES[1]}.image", "foundation", "foundation", made))


def _served(file: DeclaredThing, lab: Lab) -> DeclaredThing:
    """The file with the guest whose user-data it is."""
    guest = next((spec.name for spec in lab.guests() if file.name.endswith(f"/{lab.name}-{spec.name}-user-data.yaml")), "")
    return DeclaredThing(file.name, file.origin, guest)
