"""Reads who holds a state, without a Terraform process.

Terraform and OpenTofu write the same JSON in both places (`statemgr.LockInfo`): in the bucket as an object beside the state while
it is locked, on disk as a file that says whose the lock is. On disk the lock itself is an fcntl lock of a live process, so a file
that a killed Terraform left locks nothing.
"""

from __future__ import annotations

import fcntl
import json
import re
from dataclasses import dataclass
from pathlib import Path

from labctl.adapters.terraform.diagnostics import LockInfo


@dataclass(frozen=True, slots=True)
class FileLock:
    """The lock on a state file.

    Attributes:
        info: Whose it is or was; None where no file says so.
        held: Whether a live process holds it now.
        file: The file that says whose it is.
    """

    info: LockInfo | None
    held: bool
    file: Path


def lock_from_json(text: str | bytes) -> LockInfo | None:
    """The lock that the JSON describes; None where it is none."""
    try:
        shape = json.loads(text)
        return LockInfo(
            id=str(shape["ID"]),
            who=str(shape.get("Who") or ""),
            operation=str(shape.get("Operation") or "").removeprefix("OperationType").lower(),
            created=re.sub(r"T(\d\d:\d\d:\d\d)(\.\d+)?Z$", r" \1 UTC", str(shape.get("Created") or "")),
            path=str(shape.get("Path") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def file_lock(state: Path) -> FileLock:
    """The lock on a state file of the local backend.

    Source of the name: `statemgr.Filesystem.lockInfoPath`; a leading dot of the state's name is not doubled.
    """
    file = state.with_name(f".{state.name.removeprefix('.')}.lock.info")
    try:
        info = lock_from_json(file.read_bytes())
    except OSError:
        info = None
    return FileLock(info, _held(state), file)


def _held(state: Path) -> bool:
    """Whether another process has the file locked as Terraform does it: fcntl, the whole file, for writing."""
    try:
        with state.open("rb") as handle:
            fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.lockf(handle, fcntl.LOCK_UN)
    except FileNotFoundError:
        return False
    except (BlockingIOError, PermissionError):
        return True
    return False
