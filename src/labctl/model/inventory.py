"""What a hypervisor holds, as plain values, and which of it is not ours.

The provider adopts a guest that already exists under a VMID it was told to create, and destroys it with the lab later. So every
VMID that a plan creates is looked up first (`foreign_guests`), and one that a stranger holds stops the run (`refuse_foreign`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from labctl.model.errors import UserError

GuestKind = Literal["qemu", "lxc"]


@dataclass(frozen=True, slots=True)
class Release:
    """Version of Proxmox VE, as `9.0.10`."""

    text: str

    @property
    def numbers(self) -> tuple[int, int]:
        """Major and minor; (0, 0) where the text is not a version."""
        parts = (self.text.split("-")[0].split("~")[0] + ".0").split(".")
        return (int(parts[0]), int(parts[1])) if parts[0].isdigit() and parts[1].isdigit() else (0, 0)

    @property
    def major(self) -> int:
        """The major version."""
        return self.numbers[0]


@dataclass(frozen=True, slots=True)
class GuestEntry:
    """A guest as the cluster lists it.

    Attributes:
        vmid: Its number, unique in the cluster.
        name: Its name; "" when it has none.
        node: The node that it is on.
        kind: A virtual machine or a container.
        status: `running`, `stopped`, or what else the cluster says.
        pool: Its pool, "" without.
        tags: Its tags, sorted.
        template: Whether it is a template.
        lock: The lock that is on it (`backup`, `migrate`, …), "" without.
    """

    vmid: int
    name: str
    node: str
    kind: GuestKind
    status: str
    pool: str = ""
    tags: tuple[str, ...] = ()
    template: bool = False
    lock: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster."""

    name: str
    online: bool


@dataclass(frozen=True, slots=True)
class Datastore:
    """A datastore as one node sees it; sizes in bytes, 0 where the node does not tell.

    Attributes:
        name: Its id.
        kind: `dir`, `lvmthin`, `zfspool`, ….
        content: The content types that it allows.
        total_bytes: Its size.
        free_bytes: What is free of it.
        active: Whether it is enabled and the node can use it now.
    """

    name: str
    kind: str
    content: frozenset[str]
    total_bytes: int
    free_bytes: int
    active: bool


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume on a datastore. `vmid` is its owner's, 0 without one."""

    volid: str
    content: str
    format: str
    size_bytes: int
    vmid: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """A resource pool."""

    name: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a guest's configuration.

    Attributes:
        name: As `memory` or `virtio0`.
        value: What counts now; None where it will be set only by what is pending.
        pending: What counts after the next start; None where nothing waits.
        removed: Whether the next start drops it.
    """

    name: str
    value: str | None
    pending: str | None = None
    removed: bool = False

    @property
    def waits(self) -> bool:
        """Whether a change of it waits for the guest's next start."""
        return self.removed or (self.pending is not None and self.pending != self.value)


@dataclass(frozen=True, slots=True)
class PciMapping:
    """A PCI device under a name. `troubles` is what the node has to say against it, "" for nothing."""

    name: str
    troubles: str = ""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token of a user; `expires_s` in seconds since 1970-01-01 UTC, 0 for never."""

    name: str
    expires_s: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A user with its tokens; `expires_s` as a token's."""

    name: str
    enabled: bool = True
    expires_s: int = 0
    tokens: tuple[ApiToken, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """A line of the access control list: `kind` is `user`, `group` or `token`."""

    path: str
    kind: str
    subject: str
    role: str


@dataclass(frozen=True, slots=True)
class FirewallRule:
    """A rule of a guest's firewall: `in` or `out`, its action, the ports that it opens, its comment."""

    direction: str
    action: str
    dport: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A guest that holds a VMID which the lab wants to create.

    Attributes:
        vmid: The number.
        planned: The name of the lab's guest.
        name: The stranger's name; "" when the token may not see it.
        node: Where it is; "" when the token may not see it.
        kind: A virtual machine or a container; "" when the token may not see it.
    """

    vmid: int
    planned: str
    name: str = ""
    node: str = ""
    kind: GuestKind | Literal[""] = ""

    def __str__(self) -> str:
        """Names the stranger in one clause."""
        if not self.node:
            return f"VMID {self.vmid}, wanted for {self.planned!r}, is taken by a guest that this token may not see"
        what = "container" if self.kind == "lxc" else "VM"
        called = repr(self.name) if self.name else "without a name"
        return f"VMID {self.vmid}, wanted for {self.planned!r}, is taken by {what} {called} on node {self.node!r}"


def foreign_guests(
    planned_creates: Mapping[int, str],
    resources: Iterable[GuestEntry],
    state_vmids: Collection[int],
    taken: Collection[int] = (),
) -> tuple[Foreign, ...]:
    """The strangers that hold a VMID which the plan creates, by VMID.

    Args:
        planned_creates: VMID → name of each guest that the plan creates.
        resources: The guests that the cluster shows to this token.
        state_vmids: VMIDs in the lab's own Terraform state.
        taken: VMIDs that the cluster calls in use, seen or not: a token with few rights is not shown every guest.
    """
    seen = {guest.vmid: guest for guest in resources}
    found = []
    for vmid, planned in sorted(planned_creates.items()):
        if vmid in state_vmids:
            continue
        if guest := seen.get(vmid):
            found.append(Foreign(vmid, planned, guest.name, guest.node, guest.kind))
        elif vmid in taken:
            found.append(Foreign(vmid, planned))
    return tuple(found)


def refuse_foreign(foreign: Collection[Foreign]) -> None:
    """Stops when there is a stranger.

    Raises:
        UserError: Names each one with its VMID, its name and its node.
    """
    if foreign:
        raise UserError(
            "; ".join(str(one) for one in foreign),
            hint="labctl leaves it alone. Give the lab's guest another vmid in lab.yaml, or remove the other guest yourself.",
        )
