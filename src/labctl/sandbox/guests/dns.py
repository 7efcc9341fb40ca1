"""A small name server on the guests' network: the lab's names, everything else passed on.

Guests know each other by their hosts files; containers inside them do not, and ask the resolver that the guest has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import cast

log = logging.getLogger(__name__)

PORT = 53
TTL_S = 5
UPSTREAM_TIMEOUT_S = 5.0
RESOLV_CONF = Path("/etc/resolv.conf")
TYPE_A, CLASS_IN = 1, 1
_HEADER = struct.Struct(">HHHHHH")
_ANSWER_FLAGS = 0x8580
"""Response, authoritative, recursion desired and available (RFC 1035, 4.1.1)."""


class NameServer:
    """Answers over UDP.

    Args:
        address: Where to listen.
        lookup: Gives the address of a name in lower case, "" for one that the lab does not have.
    """

    def __init__(self, address: str, lookup: Callable[[str], str]) -> None:
        self._listen = address
        self._lookup = lookup
        self._transport: asyncio.DatagramTransport | None = None
        self._told = False

    @property
    def address(self) -> str:
        """Where it listens, "" where it does not."""
        return self._listen if self._transport else ""

    async def open(self) -> None:
        """Listen, unless it does. Without the right to port 53 guests resolve through Docker."""
        if self._transport:
            return
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Protocol(self._lookup), local_addr=(self._listen, PORT)
            )
        except OSError as error:
            if not self._told:
                log.warning(
                    "no name server on %s: %s. Containers inside guests will not know the lab's names.", self._listen, error
                )
            self._told = True

    def close(self) -> None:
        """Stop."""
        if self._transport:
            self._transport.close()
            self._transport = None


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, lookup: Callable[[str], str]) -> None:
        self._lookup = lookup
        self._work: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own transport for datagrams does not inherit from the class that describes it.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = local_answer(data, self._lookup)
        if answer is not None:
            self._transport.sendto(answer, addr)
            return
        task = asyncio.get_running_loop().create_task(self._forward(data, addr))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _forward(self, data: bytes, addr: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        for server in upstreams(_text(RESOLV_CONF)):
            family = socket.AF_INET6 if ip_address(server).version == 6 else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as question, contextlib.suppress(OSError, TimeoutError):
                question.setblocking(False)
                async with asyncio.timeout(UPSTREAM_TIMEOUT_S):
                    await loop.sock_connect(question, (server, PORT))
                    await loop.sock_sendall(question, data)
                    answer = await loop.sock_recv(question, 65535)
                self._transport.sendto(answer, addr)
                return


def local_answer(question: bytes, lookup: Callable[[str], str]) -> bytes | None:
    """The answer to a question about a name of the lab; None for any other."""
    try:
        name, end = _name(question)
        kind, _class = struct.unpack_from(">HH", question, end)
    except (struct.error, IndexError, UnicodeDecodeError):
        return None
    address = lookup(name)
    if not address:
        return None
    asked = question[12 : end + 4]
    # Names have an IPv4 address and nothing else: to another question the answer is empty, not "no such name".
    record = struct.pack(">HHHIH", 0xC00C, TYPE_A, CLASS_IN, TTL_S, 4) + ip_address(address).packed if kind == TYPE_A else b""
    (number,) = struct.unpack_from(">H", question)
    return _HEADER.pack(number, _ANSWER_FLAGS, 1, 1 if record else 0, 0, 0) + asked + record


def _name(question: bytes) -> tuple[str, int]:
    """The name that a question asks for, in lower case, and where it ends."""
    labels, at = [], _HEADER.size
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return ".".join(labels), at + 1


def upstreams(resolv_conf: str) -> list[str]:
    """The name servers of a resolv.conf."""
    lines = (line.split() for line in resolv_conf.splitlines())
    return [line[1].partition("%")[0] for line in lines if len(line) > 1 and line[0] == "nameserver"]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
