"""Which Terraforms work, or were killed, in a stack's folder: a small file beside the stack that outlives labctl.

A record that outlives its process tells that this was killed, and by that, whose a lock is that nobody holds any more. Records of
killed ones are kept until somebody has looked (`forget_dead`), however many runs are killed before that.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RECORD_NAME = "terraform.pid"
SINCE_FORMAT = "%Y-%m-%d %H:%M:%S UTC"


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """A Terraform, as written beside its stack.

    Attributes:
        pid: Its process id, also its process group; 0 while it is being started.
        start: When it started in the kernel's clock ticks, so that a reused pid is not taken for it; 0 where that is unknown.
        command: What it does: "apply", "plan" …
        since: When it started, UTC.
    """

    pid: int
    start: int
    command: str
    since: str

    @property
    def began(self) -> datetime | None:
        """When it started, None where that was written by something else."""
        try:
            return datetime.strptime(self.since, SINCE_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            return None


def starting_record(command: str) -> ChildRecord:
    """The record of a Terraform that is about to be started."""
    return ChildRecord(0, 0, command, datetime.now(UTC).strftime(SINCE_FORMAT))


def read_records(file: Path) -> tuple[ChildRecord, ...]:
    """The records in the order in which they were added; none where there is no such file."""
    try:
        shape = json.loads(file.read_text())
        return tuple(ChildRecord(int(one["pid"]), int(one["start"]), str(one["command"]), str(one["since"])) for one in shape)
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def write_records(file: Path, records: tuple[ChildRecord, ...]) -> None:
    """Replaces the records; no file is left where there are none.

    Raises:
        OSError: The disk is full.
    """
    if not records:
        file.unlink(missing_ok=True)
        return
    new = file.with_name(f"{file.name}.new")
    new.write_text(json.dumps([asdict(one) for one in records]))
    new.replace(file)


def running_child(file: Path) -> ChildRecord | None:
    """The Terraform that still runs here, else None."""
    return next((found for one in read_records(file) if (found := _running(one, file.parent)) is not None), None)


def dead_children(file: Path) -> tuple[ChildRecord, ...]:
    """Those that ended without their labctl: they were killed, or their machine was, or they finished after it was killed."""
    return tuple(one for one in read_records(file) if _running(one, file.parent) is None)


def forget_dead(file: Path) -> None:
    """Forgets those that ended, once what they left has been dealt with."""
    with contextlib.suppress(OSError):
        write_records(file, tuple(one for one in read_records(file) if _running(one, file.parent) is not None))


def start_ticks(pid: int) -> int:
    """When the process started in the kernel's clock ticks; 0 where it has ended or that is unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # proc(5): the command's name, in parentheses, may hold spaces; after it, starttime is the 20th field and state the first.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])


def _running(record: ChildRecord, folder: Path) -> ChildRecord | None:
    """The record with its pid if its process runs."""
    if record.pid == 0:
        pid = _started_in(folder, record.command)
        return ChildRecord(pid, start_ticks(pid), record.command, record.since) if pid else None
    return record if start_ticks(record.pid) == record.start and _alive(record.pid) else None


def _started_in(folder: Path, command: str) -> int:
    """The process that does `command` in the folder: labctl was killed before it could write down which; 0 if there is none."""
    word = command.split(maxsplit=1)[0].encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.samefile(entry / "cwd") and word in (entry / "cmdline").read_bytes().split(b"\0"):
                return int(entry.name)
    return 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
