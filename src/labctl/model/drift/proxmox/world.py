"""What a lab declares on the hypervisor, and what was seen there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from labctl.model.drift.finding import Change, Finding, Kind, Severity
from labctl.model.inventory import Account, Grant, GuestEntry, GuestKind, Node, Option, PciMapping, Volume
from labctl.model.privileges import Permissions
from labctl.model.target import Datastores

AREA = "proxmox"
Unmanaged = Literal["lab", "all"]
"""`lab`: guests of others are worth a note; `all`: each is a finding."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something is declared.

    Attributes:
        address: Its Terraform address within the stack.
        stack: The stack.
        layer: The stack's layer.
        made: Whether the stack's state has it; None where the state could not be read.
    """

    address: str
    stack: str
    layer: str
    made: bool | None = True


@dataclass(frozen=True, slots=True)
class DeclaredGuest:
    """A guest as the state has it, or as lab.yaml wants it where no state does."""

    vmid: int
    name: str
    node: str
    origin: Origin
    pool: str = ""
    kind: GuestKind = "qemu"
    started: bool = True
    template: bool = False
    firewall: bool = False


@dataclass(frozen=True, slots=True)
class DeclaredThing:
    """A file (its volume id), a PCI mapping or a pool (its name); `guest` is whom it serves, "" for all."""

    name: str
    origin: Origin
    guest: str = ""


@dataclass(frozen=True, slots=True)
class Declared:
    """What belongs to the lab on the hypervisor.

    Attributes:
        lab: The lab's name, which is its pool's too, and the head of its files' names.
        node: The node that it is made on.
        datastores: Its datastores.
        guests: Those of the states, and those of lab.yaml besides.
        files: Snippets and images.
        mappings: PCI mappings.
        pools: Its pool.
        firewall: Whether the datacenter's firewall has to be on.
        token_id: `user@realm!name` that the hypervisor is asked with.
        roles: Privileges of the roles that docs/proxmox.md has made.
    """

    lab: str
    node: str
    datastores: Datastores
    guests: tuple[DeclaredGuest, ...] = ()
    files: tuple[DeclaredThing, ...] = ()
    mappings: tuple[DeclaredThing, ...] = ()
    pools: tuple[DeclaredThing, ...] = ()
    firewall: bool = False
    token_id: str = ""
    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def user(self) -> str:
        """The owner of the token."""
        return self.token_id.partition("!")[0]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the token was shown; None for what could not be read, which `problems` then tells.

    Attributes:
        nodes: The cluster's nodes.
        guests: Its guests.
        taken: VMIDs that are in use, of those that were asked for because no guest is listed under them.
        asked: The VMIDs that were asked for.
        options: The configuration of the lab's guests, by VMID.
        firewalls: Whether the firewall of a guest of the lab is on, by VMID.
        volumes: What lies on the lab's datastores, by datastore.
        pools: Names of pools.
        mappings: PCI mappings.
        accounts: Users.
        grants: The access control list.
        roles: Privileges by role.
        firewall: Whether the datacenter's firewall is on.
        permissions: What the token may do.
        problems: What could not be read, a sentence each with its remedy.
    """

    nodes: tuple[Node, ...] = ()
    guests: tuple[GuestEntry, ...] | None = None
    taken: frozenset[int] = frozenset()
    asked: frozenset[int] = frozenset()
    options: Mapping[int, tuple[Option, ...]] = field(default_factory=dict)
    firewalls: Mapping[int, bool] = field(default_factory=dict)
    volumes: Mapping[str, tuple[Volume, ...]] = field(default_factory=dict)
    pools: frozenset[str] | None = None
    mappings: tuple[PciMapping, ...] | None = None
    accounts: tuple[Account, ...] | None = None
    grants: tuple[Grant, ...] | None = None
    roles: Mapping[str, frozenset[str]] | None = None
    firewall: bool | None = None
    permissions: Permissions = field(default_factory=lambda: Permissions({}))
    problems: tuple[str, ...] = ()

    @property
    def offline(self) -> frozenset[str]:
        """Names of the nodes that are off, or cut off."""
        return frozenset(node.name for node in self.nodes if not node.online)

    def may(self, path: str, *any_of: str) -> bool:
        """Whether the token has one of the privileges on a path."""
        return not self.permissions.at(path).isdisjoint(any_of)


@dataclass(frozen=True, slots=True)
class Part:
    """What one comparison comes to; as in `AreaDrift`."""

    findings: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    looked: int = 0


def found(
    kind: Kind,
    thing: str,
    text: str,
    severity: Severity = Severity.MEDIUM,
    *,
    origin: Origin | None = None,
    guest: str = "",
    node: str = "",
    changes: tuple[Change, ...] = (),
) -> Finding:
    """A finding of this area; of a thing that Terraform made, `thing` is its address."""
    stack, layer = (origin.stack, origin.layer) if origin else ("", "")
    return Finding(AREA, kind, thing, text, severity, stack=stack, layer=layer, guest=guest, node=node, changes=changes)


def change(path: str, before: Any, after: Any) -> tuple[Change, ...]:
    """One change."""
    return (Change(path, before, after),)


def some(names: Collection[str], most: int = 10) -> str:
    """The first of many names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
