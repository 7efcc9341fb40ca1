"""Reads everything that a preflight looks at."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from labctl.adapters.proxmox._client import Proxmox
from labctl.adapters.proxmox.errors import PermissionMissing, ProxmoxFailed
from labctl.model.lab import Lab
from labctl.model.preflight import Facts

T = TypeVar("T")


def gather(proxmox: Proxmox, lab: Lab, now: Callable[[], float] = time.time) -> Facts:
    """What `labctl.model.preflight.checks` needs to know; only reads.

    Something that the token may not read becomes an empty or unknown fact, and the checks say which right is missing.

    Args:
        proxmox: The hypervisor.
        lab: The lab that is to be built there.
        now: This machine's clock, in seconds since 1970-01-01 UTC.

    Raises:
        LabError: The API cannot be asked at all (unreachable, certificate, token).
    """
    release = proxmox.version()
    permissions = proxmox.permissions()
    nodes = proxmox.nodes()
    usable = any(node.name == lab.node and node.online for node in nodes)
    return Facts(
        endpoint=proxmox.endpoint,
        token_id=proxmox.token_id,
        release=release,
        permissions=permissions,
        nodes=nodes,
        datastores=_readable(lambda: proxmox.datastores(lab.node), ()) if usable else (),
        bridges=_readable(lambda: proxmox.bridges(lab.node), ()) if usable else (),
        guests=proxmox.resources(),
        taken=frozenset(guest.settings.vmid for guest in lab.guests() if not proxmox.vmid_free(guest.settings.vmid)),
        clock_skew_s=_readable(lambda: clock_skew(proxmox, lab.node, now), None) if usable else None,
        firewall_enabled=_readable(proxmox.firewall_enabled, None),
    )


def clock_skew(proxmox: Proxmox, node: str, now: Callable[[], float] = time.time) -> float:
    """The node's clock minus this machine's, in seconds, to about one second."""
    before = now()
    there = proxmox.time(node)
    return there - (before + now()) / 2


def _readable(read: Callable[[], T], unknown: T) -> T:
    try:
        return read()
    except PermissionMissing:
        return unknown
    except ProxmoxFailed as error:
        # 501: this release does not have the call.
        if error.status == 501:
            return unknown
        raise
