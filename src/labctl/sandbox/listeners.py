"""Who listens on a port, for an error message that helps."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

_LISTEN = "0A"


def listener(address: str, port: int) -> str:
    """The process that listens on an IPv4 address and port, as `name (process 123)`; "" where the system does not tell."""
    inodes = _inodes(address, port)
    for entry in Path("/proc").iterdir() if inodes else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if any(_target(link) in inodes for link in (entry / "fd").iterdir()):
                    return f"{(entry / 'comm').read_text().strip()} (process {entry.name})"
    return ""


def _target(link: Path) -> str:
    with contextlib.suppress(OSError):
        return str(link.readlink())
    return ""


def _inodes(address: str, port: int) -> set[str]:
    """The sockets that listen there or on every address (`/proc/net/tcp`, proc_pid_net(5))."""
    try:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return set()
    wanted = {f"{struct.unpack('=I', socket.inet_aton(one))[0]:08X}:{port:04X}" for one in (address, "0.0.0.0")}  # noqa: S104
    rows = (line.split() for line in lines)
    return {f"socket:[{row[9]}]" for row in rows if row[1] in wanted and row[3] == _LISTEN}
