"""What looks at the world beside the states, each at its own part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from labctl.engine.drift import docker, guests, proxmox, store, vault

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun
    from labctl.model.drift import AreaDrift

Areas = Mapping[str, "Callable[[LabRun], AreaDrift]"]


def areas(now: datetime, unmanaged: Literal["lab", "all"]) -> Areas:
    """All of them, by name.

    Args:
        now: When the check is (UTC): what expires is held against it.
        unmanaged: Whether guests of others on the hypervisor are findings.
    """
    return {
        "proxmox": partial(proxmox.look, now=now, unmanaged=unmanaged),
        "vault": vault.look,
        "store": store.look,
        "docker": docker.look,
        "guests": guests.look,
    }
