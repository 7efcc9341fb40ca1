"""Finds a folder on a tmpfs for what must never lie on a disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from labctl.model.errors import AdapterError

_NOTE = "runtime-folder"
_MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs"}


def runtime_folder(home: Path) -> Path:
    """The folder for the `/run` of every guest of a home: private, on a tmpfs, the same each time.

    Raises:
        AdapterError: No tmpfs can be written, or the folder there is somebody else's.
    """
    label = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    for base in _candidates(home):
        if base.is_dir() and os.access(base, os.W_OK) and file_system(base) in _MEMORY_FILE_SYSTEMS:
            owner = base / f"labctl-{os.getuid()}"
            _private(owner)
            _private(owner / label)
            if home.is_dir():
                (home / _NOTE).write_text(f"{base}\n")
            return owner / label
    raise AdapterError(
        "no tmpfs for the guests' secrets was found",
        hint="Mount a tmpfs on /dev/shm, or set XDG_RUNTIME_DIR to a folder on one.",
    )


def remove_runtime_folder(home: Path) -> None:
    """Remove it with all that is in it."""
    shutil.rmtree(runtime_folder(home), ignore_errors=True)


def file_system(path: Path) -> str:
    """The type of the file system that a path is on; "" where the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def _candidates(home: Path) -> list[Path]:
    """Where to look: first where it was, for a later command may run without the login session that the first one had."""
    note = home / _NOTE
    named = [note.read_text().strip() if note.is_file() else "", os.environ.get("XDG_RUNTIME_DIR", "")]
    return [*(Path(name) for name in named if name), Path("/dev/shm")]  # noqa: S108  (a private folder in it is made and checked)


def _private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise AdapterError(
            f"{folder} belongs to somebody else", hint="Remove it, or set XDG_RUNTIME_DIR to a folder of your own."
        )
    folder.chmod(0o700)
