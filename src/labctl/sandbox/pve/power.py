"""Starting and stopping guests: the config is checked against the host, then the runtime does it."""

from __future__ import annotations

import time

from labctl.sandbox.guests.runtime import GuestError
from labctl.sandbox.pve.errors import ApiError, TaskError
from labctl.sandbox.pve.formats import DRIVE, parse_properties, truthy
from labctl.sandbox.pve.hardware import bridges
from labctl.sandbox.pve.host import Host
from labctl.sandbox.pve.state import Guest, Task

SHUTDOWN_GRACE_S = 60.0
STOP_GRACE_S = 5.0


async def start(host: Host, guest: Guest, task: Task) -> None:
    """Start a guest.

    Raises:
        TaskError: It runs already, or something that its config names is not there.
    """
    host.require_unlocked(guest)
    if guest.running:
        raise TaskError(f"{'VM' if guest.kind == 'qemu' else 'CT'} {guest.vmid} already running")
    _require_parts(host, guest)
    spec = host.spec(guest)
    try:
        await host.runtime.start(spec, task.log.append)
    except GuestError as error:
        raise TaskError(f"start failed: {error}") from error
    guest.status, guest.started_at = "running", time.time()
    guest.effective.clear()


async def stop(host: Host, guest: Guest, task: Task, *, grace_s: float = STOP_GRACE_S) -> None:
    """Stop a guest; nothing happens to one that does not run."""
    host.require_unlocked(guest)
    try:
        await host.runtime.stop(guest.vmid, task.log.append, grace_s=grace_s)
    except GuestError as error:
        raise TaskError(f"stop failed: {error}") from error
    guest.status, guest.started_at = "stopped", 0.0


async def reboot(host: Host, guest: Guest, task: Task) -> None:
    """Stop a guest and start it again."""
    await stop(host, guest, task, grace_s=SHUTDOWN_GRACE_S)
    await start(host, guest, task)


def ended(host: Host, vmid: int) -> None:
    """A guest has switched itself off or died: its state follows."""
    guest = host.state.guests.get(str(vmid))
    if guest is not None:
        guest.status, guest.started_at = "stopped", 0.0
        host.save()


async def start_all(host: Host, task: Task) -> None:
    """Start every guest with `onboot`, as a PVE host does when it boots."""
    chosen = [
        guest for guest in host.state.guests.values() if truthy(guest.config.get("onboot")) and not guest.config.get("template")
    ]
    for guest in sorted(chosen, key=lambda one: (_order(guest=one), one.vmid)):
        task.log.append(f"Starting {'VM' if guest.kind == 'qemu' else 'CT'} {guest.vmid}")
        try:
            await start(host, guest, task)
        except (TaskError, ApiError) as error:
            task.log.append(f"unable to start {guest.vmid}: {error}")


def _order(guest: Guest) -> int:
    order = parse_properties(guest.config.get("startup", ""), "order").get("order", "")
    return int(order) if order.isdigit() else 10**6


def _require_parts(host: Host, guest: Guest) -> None:
    for bridge in bridges(guest):
        if bridge != host.config.bridge:
            raise TaskError(f"bridge '{bridge}' does not exist")
    host.snippet(guest)
    for option, value in guest.config.items():
        properties = parse_properties(value, "file")
        if option.startswith("hostpci"):
            mapping = properties.get("mapping", "")
            if mapping and mapping not in host.state.mappings["pci"]:
                raise TaskError(f"PCI device mapping not found for '{mapping}'")
        elif DRIVE.fullmatch(option) and properties.get("file", "none") not in {"none", "cdrom"}:
            host.datastores.volume(properties["file"])
