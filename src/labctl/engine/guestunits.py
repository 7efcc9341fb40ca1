"""How the systemd units of a guest are, asked through its agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labctl.model.units import UnitState, parse_units, units_command

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox

CALL_TIMEOUT_S = 60.0


def unit_states(hypervisor: Proxmox, vmid: int, names: Sequence[str], timeout_s: float = CALL_TIMEOUT_S) -> tuple[UnitState, ...]:
    """The units in the order of `names`.

    Raises:
        LabError: The agent does not answer.
    """
    return parse_units(hypervisor.exec(vmid, units_command(names), timeout_s=timeout_s).out, names)


def unit_state(hypervisor: Proxmox, vmid: int, name: str) -> UnitState:
    """One unit.

    Raises:
        LabError: The agent does not answer.
    """
    return unit_states(hypervisor, vmid, [name])[0]
