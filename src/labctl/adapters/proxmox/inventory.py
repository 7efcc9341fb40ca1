"""Reads everything that a drift check compares; a read that fails is a sentence, and hides none of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from labctl.adapters.proxmox._client import Proxmox
from labctl.adapters.proxmox.errors import PermissionMissing
from labctl.model.drift.proxmox import Declared, Inventory, place, to_ask
from labctl.model.errors import LabError
from labctl.model.inventory import Volume
from labctl.model.privileges import Permissions

T = TypeVar("T")


class _NoMore(Exception):
    """The API cannot be asked any more; why is among the problems."""


@dataclass(slots=True)
class _Reader:
    proxmox: Proxmox
    problems: list[str] = field(default_factory=list)

    def read(self, what: str, read: Callable[[], T], unknown: T) -> T:
        """What was read, or `unknown` and a problem."""
        try:
            return read()
        except LabError as error:
            self.problems.append(_sentence(what, error))
            if isinstance(error, PermissionMissing) or self._answers():
                return unknown
            raise _NoMore from error

    def _answers(self) -> bool:
        """Whether the API answers at all: one call that hangs must neither hide the others nor let each of them hang too."""
        try:
            self.proxmox.version()
        except LabError:
            return False
        return True


def _sentence(what: str, error: LabError) -> str:
    return f"{what} could not be read: {error.message.rstrip('. ')}. {error.hint}".strip()


def take_inventory(proxmox: Proxmox, declared: Declared) -> Inventory:
    """What the token is shown of all that `labctl.model.drift.proxmox.compare` looks at; only reads, and never raises for them.

    Args:
        proxmox: The hypervisor.
        declared: The lab's guests, datastores and node: what belongs to nobody here is listed, but not asked one by one.
    """
    reader = _Reader(proxmox)
    seen = Inventory()
    try:
        for step in (_cluster, _storage, _hidden, _guests, _access):
            seen = step(reader, seen, declared)
    except _NoMore:
        reader.problems.append(
            "what follows was not looked at: the API of Proxmox VE cannot be asked. Mend that first, see above."
        )
    return replace(seen, problems=tuple(reader.problems))


def _cluster(reader: _Reader, seen: Inventory, declared: Declared) -> Inventory:
    pve = reader.proxmox
    seen = replace(seen, nodes=reader.read("the list of nodes", pve.nodes, ()))
    seen = replace(seen, permissions=reader.read("the token's rights", pve.permissions, Permissions({})))
    seen = replace(seen, guests=reader.read("the list of guests", pve.resources, None))
    seen = replace(seen, pools=reader.read("the list of pools", lambda: frozenset(pool.name for pool in pve.pools()), None))
    seen = replace(seen, firewall=reader.read("the datacenter's firewall", pve.firewall_enabled, None))
    if declared.node in seen.offline:
        return seen
    return replace(seen, mappings=reader.read("the PCI mappings", lambda: pve.pci_mappings(declared.node), None))


def _storage(reader: _Reader, seen: Inventory, declared: Declared) -> Inventory:
    stores = declared.datastores
    if declared.node in seen.offline:
        text = f"node {declared.node} is offline: nothing is known of its datastores. Bring it back, see `pvecm status`."
        reader.problems.append(text)
        return seen
    volumes: dict[str, tuple[Volume, ...]] = {}
    for name in sorted({stores.snippets, stores.images, stores.disks}):
        found = reader.read(f"datastore {name}", partial(reader.proxmox.volumes, declared.node, name), None)
        if found is not None:
            volumes[name] = found
    return replace(seen, volumes=volumes)


def _hidden(reader: _Reader, seen: Inventory, declared: Declared) -> Inventory:
    """Asks for VMIDs that are in use though nothing is listed under them."""
    if seen.guests is None:
        return seen
    asked, taken = set(), set()
    for vmid in to_ask(seen, declared):
        free = reader.read(f"whether VMID {vmid} is in use", partial(reader.proxmox.vmid_free, vmid), None)
        if free is not None:
            asked.add(vmid)
        if free is False:
            taken.add(vmid)
    return replace(seen, asked=frozenset(asked), taken=frozenset(taken))


def _guests(reader: _Reader, seen: Inventory, declared: Declared) -> Inventory:
    options, firewalls = {}, {}
    for mine, guest in place(seen, declared).matched:
        if guest.node in seen.offline:
            continue
        vmid = guest.vmid
        found = reader.read(f"the configuration of {mine.name}", partial(reader.proxmox.options, vmid), None)
        if found is not None:
            options[vmid] = found
        walled = reader.read(f"the firewall of {mine.name}", partial(reader.proxmox.guest_firewall, vmid), None)
        if walled is not None:
            firewalls[vmid] = walled
    return replace(seen, options=options, firewalls=firewalls)


def _access(reader: _Reader, seen: Inventory, _declared: Declared) -> Inventory:
    pve = reader.proxmox
    seen = replace(seen, accounts=reader.read("the list of users", pve.accounts, None))
    seen = replace(seen, grants=reader.read("the access control list", pve.grants, None))
    return replace(seen, roles=reader.read("the list of roles", pve.roles, None))
