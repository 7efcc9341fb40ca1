"""`labctl console`: what a guest said since it was started, read from its journal through the guest agent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from labctl.adapters.proxmox import AgentUnavailable, ProxmoxFailed, StillRunning, Unreachable
from labctl.engine.guestcall import CalledGuest, call_guest
from labctl.engine.lab import OpenLab
from labctl.model.errors import AdapterError

MOST_LINES = 5000
"""Of the journal at once: the agent carries at most 16 MiB."""

POLL_S = 1.0
CALL_TIMEOUT_S = 30.0
_CURSOR = "-- cursor: "
_OWN_CALLS = re.compile(r"qemu-ga\[\d+\]: info: guest-")


def console_lines(
    found: OpenLab, name: str, *, follow: bool, note: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """The lines of the guest's journal since its start; with `follow` those that come, until the caller stops.

    A guest that reboots meanwhile is followed into its next boot.

    Args:
        found: The lab.
        name: The guest.
        follow: Go on.
        note: Gets a line when the agent goes away or comes back.
        pause: Waits for some seconds.

    Raises:
        UserError: There is no such guest, or it is not up.
        AdapterError: Its agent does not answer.
    """
    with call_guest(found, name) as guest:
        try:
            lines, cursor = _journal(guest, "")
        except AgentUnavailable as error:
            raise AdapterError(
                "its agent does not answer, so its journal cannot be read",
                where=f"guest {name}",
                hint="It starts early in a boot: try again. `qm terminal VMID` on the node shows the guest's console.",
            ) from error
        yield from lines
        away = False
        while follow:
            pause(POLL_S)
            try:
                lines, cursor = _journal(guest, cursor)
            except (ProxmoxFailed, StillRunning, Unreachable) as error:
                if not away:
                    note(f"guest {name} does not answer: {error.message}")
                away = True
                continue
            if away:
                note(f"guest {name} answers again")
                away = False
            yield from lines


def _journal(guest: CalledGuest, cursor: str) -> tuple[list[str], str]:
    """The lines after a cursor of this boot, and the cursor of the last one."""
    begin = [f"--after-cursor={cursor}"] if cursor else []
    command = ["journalctl", "--boot", "--no-pager", "--output=short-iso", f"--lines={MOST_LINES}", "--show-cursor", *begin]
    result = guest.hypervisor.exec(guest.vmid, command, timeout_s=CALL_TIMEOUT_S)
    if result.exit_code != 0 and not cursor:
        said = (result.err or result.out).strip() or f"exit code {result.exit_code}"
        raise AdapterError(f"its journal cannot be read: {said}", where=f"guest {guest.spec.name}")
    if result.exit_code != 0:
        # The cursor is of a boot that this one does not know: all of the new boot is new.
        return _journal(guest, "")
    # Each look at the journal writes into it, and would be all that one sees.
    lines = [line for line in result.out.splitlines() if not _OWN_CALLS.search(line)]
    if lines and lines[-1].startswith(_CURSOR):
        return lines[:-1], lines[-1].removeprefix(_CURSOR)
    return [line for line in lines if line != "-- No entries --"], cursor
