"""The interface between the emulated hypervisor and what really runs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

Say = Callable[[str], None]


AGENT_READERS = (
    "get-osinfo",
    "get-host-name",
    "network-get-interfaces",
    "get-time",
    "get-timezone",
    "get-users",
    "info",
    "get-fsinfo",
    "get-vcpus",
)
"""The calls of the guest agent that only read, by PVE's names."""

READ_LIMIT = 16 * 2**20
"""PVE reads at most so much of a file through the agent."""


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
        cores: Processors.
        user_data: What its cloud-init is given, as uploaded; "" for nothing.
        instance_id: Changes with its cloud-init data: cloud-init then runs again at the next boot.
        boots: False for a guest behind which nothing is to run.
    """

    vmid: int
    name: str
    role: str
    address: str
    prefix: int
    mac: str
    fqdn: str
    memory_mib: int
    cores: int = 1
    user_data: str = ""
    instance_id: str = ""
    boots: bool = True


def read_answer(content: bytes) -> dict[str, object]:
    """PVE's answer to `file-read`.

    Args:
        content: The file, or more of it than `READ_LIMIT`.
    """
    shown = content[:READ_LIMIT]
    # Each byte becomes the character with its number, as in PVE.
    answer: dict[str, object] = {"content": shown.decode("latin-1"), "bytes-read": len(shown)}
    return {**answer, "truncated": 1} if len(content) > READ_LIMIT else answer


def content_to_write(arguments: Mapping[str, str | list[str]]) -> bytes:
    """What `file-write` is to write.

    Raises:
        AgentError: It was sent encoded, and is not base64.
    """
    text = str(arguments["content"])
    if str(arguments.get("encode", "1")) not in {"0", "false", "off", "no"}:
        return text.encode()
    try:
        return base64.b64decode(text.encode(), validate=True)
    except binascii.Error as error:
        raise AgentError(f"Invalid base64 data: {error}") from error


class GuestRuntime(Protocol):
    """Starts guests and speaks for their agents."""

    async def open(self, ended: Callable[[int], None]) -> None:
        """Get ready; what an earlier sandbox left running is ended.

        Args:
            ended: Called with the id of a guest that switched itself off or died.
        """

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

    async def services(self, vmid: int) -> dict[str, str]:
        """The units of a guest and their states."""

    async def close(self) -> None:
        """End every guest."""
