"""systemd's units of a guest, as `systemctl show` tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit.

    Attributes:
        name: Its name.
        state: `active`, `activating`, `inactive`, `failed`, …; `missing` where the guest has no such unit.
    """

    name: str
    state: str

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return self.state == "active"

    @property
    def missing(self) -> bool:
        """Whether the guest has no such unit."""
        return self.state == "missing"


def units_command(names: Sequence[str]) -> list[str]:
    """The command whose output `parse_units` reads."""
    return ["systemctl", "show", "--property=Id,LoadState,ActiveState", *names]


def parse_units(out: str, names: Sequence[str]) -> tuple[UnitState, ...]:
    """The units in the order of `names`; one that is not told of is missing.

    systemd answers one block a unit, in the order asked, with a blank line between two. An alias is told under its unit's
    name, so the order counts.
    """
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in out.strip().split("\n\n")]
    found = []
    for place, name in enumerate(names):
        block = blocks[place] if place < len(blocks) else {}
        missing = block.get("LoadState", "not-found") == "not-found"
        found.append(UnitState(name, "missing" if missing else block.get("ActiveState", "unknown")))
    return tuple(found)
