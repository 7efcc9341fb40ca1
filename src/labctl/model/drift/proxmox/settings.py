"""What one guest of the lab has set that no plan shows: what waits for a restart, disks taken off, a firewall that is off."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labctl.model.drift.finding import MASK, Change, Finding, Kind, Severity
from labctl.model.drift.proxmox.guests import Placed
from labctl.model.drift.proxmox.world import DeclaredGuest, Inventory, Part, change, found, some
from labctl.model.inventory import Option

UNUSED = re.compile(r"unused\d+")
SECRET_OPTIONS = frozenset({"cipassword", "sshkeys"})
VOLUME = re.compile(r"^(?:[a-z]+=)?([A-Za-z][\w.-]*:[^,\s]+)")


def volume_of(option: Option) -> str:
    """The volume that an option names, "" for none."""
    match = VOLUME.match(option.value or "")
    return match[1] if match and not option.name.startswith("net") else ""


def compare_settings(seen: Inventory, placed: Placed) -> Part:
    """The lab's own guests, one by one."""
    findings = [one for mine, _ in placed.matched for one in _of_guest(mine, seen)]
    return Part(tuple(findings), looked=len(seen.options) + len(seen.firewalls))


def _of_guest(mine: DeclaredGuest, seen: Inventory) -> Iterator[Finding]:
    options = seen.options.get(mine.vmid, ())
    origin, who = mine.origin, f"guest {mine.name} ({mine.vmid})"
    waiting = [option for option in options if option.waits]
    if waiting:
        names = some([option.name for option in waiting])
        text = f"{who} waits for a restart, until which these do not count: {names}. `qm pending {mine.vmid}` shows them"
        changes = tuple(_change(option) for option in waiting)
        yield found(
            Kind.CHANGED,
            f"{mine.kind}/{mine.vmid}/pending",
            text,
            origin=origin,
            guest=mine.name,
            node=mine.node,
            changes=changes,
        )
    for option in options:
        if UNUSED.fullmatch(option.name):
            text = f"{who} has a disk that was taken off and kept: {option.value} as {option.name}"
            yield found(Kind.UNMANAGED, f"volume/{option.value}", text, origin=origin, guest=mine.name, node=mine.node)
    if mine.firewall and seen.firewalls.get(mine.vmid) is False:
        yield found(
            Kind.CHANGED,
            origin.address.replace("_vm.", "_firewall_options."),
            f"the firewall of {who} is off: every port of it is open",
            Severity.HIGH,
            origin=origin,
            guest=mine.name,
            node=mine.node,
            changes=change("enabled", True, False),
        )


def _change(option: Option) -> Change:
    if option.name in SECRET_OPTIONS:
        return Change(option.name, MASK, MASK)
    return Change(option.name, option.value, None if option.removed else option.pending)
