"""Providers that outlived their Terraform.

A killed Terraform does not take its provider along. That may still be making a guest, which nobody follows any more and which the
next run would be making at the same time; or it stays for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_PROGRAM = "terraform-provider-"
_END_S = 5.0


def end_orphans(root: Path) -> tuple[int, ...]:
    """Kills the providers that work in a folder below `root` without a Terraform there, and returns their pids.

    A provider inherits its Terraform's working folder, so that one whose parent is elsewhere has lost it. Only where there is a
    /proc; somebody's own Terraform in such a folder keeps its provider.
    """
    orphans = tuple(_orphans(f"{root.resolve()}{os.sep}"))
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    limit = time.monotonic() + _END_S
    while any(_folder(pid) for pid in orphans) and time.monotonic() < limit:
        time.sleep(0.02)
    return orphans


def _orphans(below: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        folder = _folder(pid)
        if folder.startswith(below) and _is_provider(entry) and _folder(_parent(entry)) != folder:
            found.append(pid)
    return found


def _folder(pid: int) -> str:
    """Where a process works, "" where there is none; of a removed folder, the path that it had."""
    try:
        return os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")  # noqa: PTH115 - no Path: it may be gone
    except OSError:
        return ""


def _is_provider(entry: Path) -> bool:
    try:
        program = (entry / "cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
    return Path(os.fsdecode(program)).name.startswith(_PROGRAM)


def _parent(entry: Path) -> int:
    try:
        # proc(5): after the command's name in parentheses come state and parent.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
