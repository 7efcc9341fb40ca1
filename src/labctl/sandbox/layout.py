"""The files of a sandbox's home."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies.

    Attributes:
        home: The sandbox's folder.
    """

    home: Path

    @property
    def config(self) -> Path:
        """Node, addresses, ports."""
        return self.home / "config.json"

    @property
    def pid(self) -> Path:
        """Who serves this home."""
        return self.home / "sandbox.pid"

    @property
    def lock(self) -> Path:
        """Held by who serves this home."""
        return self.home / "sandbox.lock"

    @property
    def start_lock(self) -> Path:
        """Held by who starts or stops it."""
        return self.home / "start.lock"

    @property
    def log(self) -> Path:
        """What the daemon said."""
        return self.home / "sandbox.log"

    @property
    def state(self) -> Path:
        """The emulated hypervisor's state."""
        return self.home / "state.json"

    @property
    def children(self) -> Path:
        """Processes of the guests."""
        return self.home / "children.json"

    @property
    def chroot(self) -> Path:
        """What SFTP clients see as `/`."""
        return self.home / "pve"

    @property
    def disks(self) -> Path:
        """The guests' disks."""
        return self.home / "guests"

    @property
    def recordings(self) -> Path:
        """Recorded requests."""
        return self.home / "recordings"
