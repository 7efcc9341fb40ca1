"""What a process is known by for good."""

from __future__ import annotations

from pathlib import Path


def start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks: with the pid it names a process for good. "" if it is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
