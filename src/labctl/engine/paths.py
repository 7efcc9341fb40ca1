"""Where a lab keeps its things: `.labctl/<lab>/` beside `lab.yaml`, readable by its owner only."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labctl.model.errors import UserError

ROOM_BYTES = 2 * 2**20
"""A lab's states and one run's journal take a tenth of it."""


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The folders of one lab.

    Attributes:
        lab_file: The `lab.yaml`.
        name: The lab's name.
    """

    lab_file: Path
    name: str

    @property
    def root(self) -> Path:
        """`.labctl/<lab>/`."""
        return self.lab_file.parent / ".labctl" / self.name

    @property
    def state(self) -> Path:
        """Local Terraform states."""
        return self.root / "state"

    @property
    def stacks(self) -> Path:
        """One work folder a stack, with its synthesised JSON."""
        return self.root / "stacks"

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.root / "runs"

    @property
    def keys(self) -> Path:
        """The authority's certificate and encrypted key files."""
        return self.root / "keys"

    @property
    def authority(self) -> Path:
        """Certificate of the lab's own authority (PEM, public)."""
        return self.keys / "authority.crt"

    @property
    def operator_identity(self) -> Path:
        """The age identity that a sandbox lab makes for itself."""
        return self.keys / "operator.agekey"

    @property
    def home(self) -> Path:
        """Terraform's private HOME: its SSH host keys, its CLI configuration."""
        return self.root / "home"

    @property
    def mirror(self) -> Path:
        """The provider mirror, shared by the labs of a checkout; `LABCTL_MIRROR` names another."""
        named = os.environ.get("LABCTL_MIRROR")
        return Path(named).absolute() if named else self.lab_file.parent / ".cache" / "labctl" / "mirror"

    @property
    def sandbox(self) -> Path:
        """The emulated hypervisor and its guests."""
        return self.root / "sandbox"

    def create(self) -> None:
        """Makes the folders, mode 0700; takes others' rights away from the two upper ones where something else made them.

        Raises:
            UserError: The disk is full or the folder may not be written.
        """
        try:
            for folder in (self.root.parent, self.root, self.state, self.stacks, self.runs, self.keys, self.home):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.root.parent, self.root):
                if folder.stat().st_mode & 0o077:
                    folder.chmod(0o700)
        except OSError as error:
            raise cannot_write(self.root, error) from error

    def require_room(self) -> None:
        """Stops before an apply where the disk is about to be full: Terraform writes its state in place, and would cut it short.

        Raises:
            UserError: There is less than `ROOM_BYTES` left.
        """
        for folder in (self.state, self.runs, self.stacks):
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
                raise cannot_write(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def replace_file(path: Path, text: str) -> None:
    """Writes the file whole or not at all, for whoever reads it meanwhile and for the next run.

    Raises:
        OSError: It cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        draft.write_text(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def private_files() -> Iterator[None]:
    """Files that are made in the block are readable by their owner only, whatever makes them: a library, a child process."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error for a file of the lab that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            "no space left on the disk",
            where=str(path),
            hint="Free some space (`du -sh .labctl/*`), then run the command again.",
        )
    return UserError(
        f"cannot be written: {error.strerror or error}",
        where=str(path),
        hint="Check the owner and mode of the folder `.labctl`.",
    )
