"""Files that survive a power cut: written aside, synced, then put in place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from labctl.model.errors import AdapterError, UserError


def read(path: Path) -> bytes:
    """The file's content.

    Raises:
        FileNotFoundError: There is none.
        AdapterError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AdapterError(f"cannot be read: {error.strerror}", where=str(path)) from error


def replace(path: Path, content: bytes) -> None:
    """Writes the file whole or not at all, mode 0600, in a folder of mode 0700.

    Raises:
        AdapterError: It cannot be written, as on a full disk; the old content is then untouched.
    """
    with _explained(path):
        make_folder(path.parent)
        aside = path.with_name(f".{path.name}.tmp")
        try:
            _write(aside, content)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)


def create_exclusively(path: Path, content: bytes) -> None:
    """As `replace`, but refuses to overwrite.

    Raises:
        UserError: The file exists.
        AdapterError: It cannot be written.
    """
    with _explained(path):
        make_folder(path.parent)
        aside = path.with_name(f".{path.name}.tmp")
        try:
            _write(aside, content)
            os.link(aside, path)
        except FileExistsError as error:
            raise UserError("exists already, and is not overwritten", where=str(path)) from error
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes the file if it is there, for good.

    Raises:
        AdapterError: It cannot be removed.
    """
    with _explained(path):
        if path.exists():
            path.unlink()
            sync_folder(path.parent)


def move(path: Path, target: Path) -> None:
    """Moves a file into another folder of the same disk.

    Raises:
        AdapterError: It cannot be moved.
    """
    with _explained(target):
        make_folder(target.parent)
        path.rename(target)
        sync_folder(target.parent)
        sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Makes a folder, mode 0700."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Makes the folder's entries themselves durable, not just what is in the files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AdapterError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            hint="Make room or correct the folder's permissions, then run again.",
        ) from error
