"""Where labctl keeps its things: `.labctl/<name>/` beside `lab.yaml` or `cdktf.json`, readable by its owner only."""

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
class RunPaths:
    """Where the runs of a project leave their things: `.labctl/<name>/` beside what describes it, readable by its owner only.

    Attributes:
        file: The file that describes the project.
        name: The project's name.
    """

    file: Path
    name: str

    @property
    def title(self) -> str:
        """What people call it."""
        return f"project {self.file.parent.name!r}"

    @property
    def root(self) -> Path:
        """`.labctl/<name>/`."""
        return self.file.parent / ".labctl" / self.name

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.root / "runs"

    @property
    def home(self) -> Path:
        """Notes about Terraform; of a lab also Terraform's private HOME: its SSH host keys, its CLI configuration."""
        return self.root / "home"

    @property
    def folders(self) -> tuple[Path, ...]:
        """What `create` makes."""
        return (self.root.parent, self.root, self.runs, self.home)

    def create(self) -> None:
        """Makes the folders, mode 0700; takes others' rights away from the two upper ones where something else made them.

        Raises:
            UserError: The disk is full or the folder may not be written.
        """
        try:
            for folder in self.folders:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.root.parent, self.root):
                if folder.stat().st_mode & 0o077:
                    folder.chmod(0o700)
            ignore = self.root.parent / ".gitignore"
            if not ignore.exists():
                ignore.touch(mode=0o600)
                ignore.write_text("*\n")
        except OSError as error:
            raise cannot_write(self.root, error) from error

    def require_room(self) -> None:
        """Stops before an apply where the disk is about to be full: Terraform writes its state in place, and would cut it short.

        Raises:
            UserError: There is less than `ROOM_BYTES` left.
        """
        for folder in self.folders:
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
                raise cannot_write(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


@dataclass(frozen=True, slots=True)
class LabPaths(RunPaths):
    """The folders of one lab; `file` is its `lab.yaml`."""

    @property
    def title(self) -> str:
        """As `RunPaths.title`."""
        return f"lab {self.name!r}"

    @property
    def state(self) -> Path:
        """Local Terraform states."""
        return self.root / "state"

    @property
    def stacks(self) -> Path:
        """One work folder a stack, with its synthesised JSON."""
        return self.root / "stacks"

    @property
    def keys(self) -> Path:
        """The authority's certificate and encrypted key files."""
        return self.root / "keys"

    @property
    def folders(self) -> tuple[Path, ...]:
        """What `create` makes."""
        return (self.root.parent, self.root, self.state, self.stacks, self.runs, self.keys, self.home)

    @property
    def authority(self) -> Path:
        """Certificate of the lab's own authority (PEM, public)."""
        return self.keys / "authority.crt"

    @property
    def ssh_key(self) -> Path:
        """Public half of labctl's own SSH key."""
        return self.keys / "ssh.pub"

    @property
    def known_hosts(self) -> Path:
        """The guests' SSH host keys, as their agents told them."""
        return self.root / "known_hosts"

    @property
    def operator_identity(self) -> Path:
        """The age identity that a sandbox lab makes for itself."""
        return self.keys / "operator.agekey"

    @property
    def mirror(self) -> Path:
        """The provider mirror, shared by the labs of a checkout; `LABCTL_MIRROR` names another."""
        named = os.environ.get("LABCTL_MIRROR")
        return Path(named).absolute() if named else self.file.parent / ".cache" / "labctl" / "mirror"

    @property
    def drift(self) -> Path:
        """What drift checks found, and what they remember."""
        return self.root / "drift"

    @property
    def sandbox(self) -> Path:
        """The emulated hypervisor and its guests."""
        return self.root / "sandbox"


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
