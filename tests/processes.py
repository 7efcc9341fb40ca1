"""What `/proc` says of processes, which come and go while it is read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path


def command_lines() -> list[bytes]:
    """The arguments of every process, each with a zero byte behind it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


@contextlib.contextmanager
def watched() -> Iterator[set[bytes]]:
    """The arguments of all processes that there are while the block runs."""
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            seen.update(command_lines())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def listening(pid: int) -> set[str]:
    """IPv4 addresses and ports that the process listens on; an IPv6 socket counts as `::`."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(descriptor.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            field = line.split()
            if field[3] == "0A" and f"socket:[{field[9]}]" in inodes:
                address, port = field[1].split(":")
                host = ".".join(str(b) for b in reversed(bytes.fromhex(address))) if table == "tcp" else "::"
                found.add(f"{host}:{int(port, 16)}")
    return found


def children(pid: int) -> list[int]:
    """The processes that it started and that are there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found
