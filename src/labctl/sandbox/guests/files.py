"""A guest's files: its disk is a folder, its `/run` a private folder on a tmpfs. No path leads out of the two."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

AGENT_FILE_MODE = 0o666
"""qemu-ga creates files with this mode: whoever writes a secret makes the file first."""


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """The files of one guest. Every method takes paths as the guest sees them and raises OSError as the guest would.

    Attributes:
        root: The folder that is the guest's disk.
        run: The folder that is the guest's `/run`.
    """

    root: Path
    run: Path

    def make(self) -> None:
        """Make the two folders, readable by nobody else, and empty `/run`."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.empty_run()
        self.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in ("/etc", "/opt", "/root", "/tmp", "/usr/local/share/ca-certificates", "/var/lib", "/var/log", "/run/lab"):  # noqa: S108
            self.make_folder(folder, parents=True)
        self.chmod("/run/lab", 0o700)

    def empty_run(self) -> None:
        """Remove everything in `/run`, as the end of a boot does."""
        shutil.rmtree(self.run, ignore_errors=True)

    def remove_all(self) -> None:
        """Remove disk and `/run`."""
        self.empty_run()
        shutil.rmtree(self.root, ignore_errors=True)

    def host_path(self, path: str) -> Path:
        """Where a guest's path lies on this machine. Only for paths that the sandbox itself chose: links are not looked at."""
        base, parts = self._split(path)
        return base.joinpath(*parts)

    def read(self, path: str, limit: int = -1) -> bytes:
        """The content of a file, at most `limit` bytes."""
        with self._parent(path) as (folder, name), os.fdopen(_open(name, os.O_RDONLY, folder), "rb") as file:
            return file.read(limit)

    def write(self, path: str, content: bytes, mode: int = AGENT_FILE_MODE) -> None:
        """Write a file; one that exists keeps its mode, a new one gets `mode`."""
        with self._parent(path) as (folder, name):
            fresh = not _exists(name, folder)
            with os.fdopen(_open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, folder, 0o600), "wb") as file:
                if fresh:
                    os.fchmod(file.fileno(), mode)
                file.write(content)

    def exists(self, path: str) -> bool:
        """Whether there is something at a path."""
        try:
            with self._parent(path) as (folder, name):
                return _exists(name, folder)
        except OSError:
            return False

    def mode(self, path: str) -> int:
        """`st_mode` of what is at a path; links are not followed."""
        with self._parent(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode

    def make_folder(self, path: str, mode: int = 0o755, *, parents: bool = False) -> None:
        """Make a folder; with `parents` what is missing above it too, and one that exists is fine."""
        posix = PurePosixPath(path)
        if parents and len(posix.parts) > 2:
            self.make_folder(str(posix.parent), parents=True)
        try:
            with self._parent(path) as (folder, name):
                os.mkdir(name, mode, dir_fd=folder)
        except FileExistsError:
            if not parents or not stat.S_ISDIR(self.mode(path)):
                raise

    def chmod(self, path: str, mode: int) -> None:
        """Set the mode of a file or folder."""
        with self._parent(path) as (folder, name):
            descriptor = _open(name, os.O_RDONLY, folder)
            try:
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._parent(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def rename(self, path: str, target: str) -> None:
        """Move a file; between disk and `/run` its content is copied, as between any two file systems."""
        if self._split(path)[0] != self._split(target)[0]:
            self.write(target, self.read(path), stat.S_IMODE(self.mode(path)))
            self.remove(path)
            return
        with self._parent(path) as (folder, name), self._parent(target) as (target_folder, target_name):
            os.rename(name, target_name, src_dir_fd=folder, dst_dir_fd=target_folder)

    def names(self, path: str) -> list[str]:
        """The names in a folder."""
        with self._parent(f"{path.rstrip('/')}/.") as (folder, _):
            return sorted(os.listdir(folder))  # noqa: PTH208  (by descriptor: no link can be put in between)

    def empty_folder(self, path: str) -> None:
        """Remove what is in a folder that the sandbox itself chose."""
        folder = self.host_path(path)
        for entry in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def _split(self, path: str) -> tuple[Path, tuple[str, ...]]:
        posix = PurePosixPath(path)
        parts = posix.parts[1:]
        if not posix.is_absolute() or ".." in parts or "\0" in path:
            raise PermissionError(1, "Operation not permitted", path)
        if parts[:2] == ("var", "run"):
            parts = parts[1:]
        return (self.run, parts[1:]) if parts[:1] == ("run",) else (self.root, parts)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The folder above a path, opened step by step so that no link on the way is followed, and the last name."""
        base, parts = self._split(path)
        *above, name = parts or (".",)
        if path.endswith("/."):
            above, name = list(parts), "."
        descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in above:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor, name
        finally:
            os.close(descriptor)


def unit_log(unit: str) -> str:
    """Where a unit's output lies in the guest."""
    return f"/var/log/{unit}.log"


def _open(name: str, flags: int, folder: int, mode: int = 0o600) -> int:
    # O_NONBLOCK: a named pipe in the guest must not hang the sandbox.
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=folder)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
