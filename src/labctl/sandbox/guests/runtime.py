"""The interface between the emulated hypervisor and what really runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

Say = Callable[[str], None]


class GuestError(Exception):
    """A guest could not be started or stopped; the sentence goes into the task."""


class AgentError(Exception):
    """The guest agent says no, in the words of qemu-ga."""


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """What a runtime is told about a guest.

    Attributes:
        vmid: Its id on the hypervisor.
        name: Its name.
        role: Name of its role (`labctl.model.guestfiles`), "" for none.
        address: Its IP address.
        prefix: Length of the network's prefix.
        mac: MAC address of its first network device.
        fqdn: Its full name; the bare name where no domain is known.
        memory_mib: Memory.
        user_data: Its user-data document, "" for none.
    """

    vmid: int
    name: str
    role: str
    address: str
    prefix: int
    mac: str
    fqdn: str
    memory_mib: int
    user_data: str = ""


class GuestRuntime(Protocol):
    """Starts guests and speaks for their agents."""

    async def start(self, spec: GuestSpec, say: Say) -> None:
        """Boot a guest.

        Raises:
            GuestError: It does not come up.
        """

    async def stop(self, vmid: int, say: Say, *, grace_s: float) -> None:
        """End a guest: ask its processes, wait up to `grace_s` seconds, then kill. Nothing happens to one that does not run."""

    async def delete(self, vmid: int) -> None:
        """Remove a guest's disk."""

    async def agent(self, vmid: int, command: str, arguments: Mapping[str, str | list[str]]) -> object:
        """Answer a call of the guest agent, in the shape of PVE's API.

        Raises:
            AgentError: The agent refuses.
        """

    def services(self, vmid: int) -> dict[str, str]:
        """The units of a guest and their states."""

    async def close(self) -> None:
        """End every guest."""
