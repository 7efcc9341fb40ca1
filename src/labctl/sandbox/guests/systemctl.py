"""`systemctl` for the units of a guest, with systemd's exit codes (systemctl(1), "EXIT STATUS")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labctl.sandbox.guests.units import Unit

NOT_ACTIVE, UNKNOWN_UNIT = 3, 4
_NO_EFFECT = {"enable", "disable", "daemon-reload", "reset-failed"}
_ALWAYS_ACTIVE = {"qemu-guest-agent.service", "ssh.service", "multi-user.target"}


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int = 0
    out: str = ""
    err: str = ""


async def systemctl(units: Mapping[str, Unit], arguments: list[str]) -> Result:
    """Carry out one call."""
    verb, *names = [argument for argument in arguments if not argument.startswith("-")] or ["list-units"]
    if verb == "list-units":
        return Result(out="".join(f"{name} {unit.state}\n" for name, unit in units.items()))
    if verb in _NO_EFFECT and "--now" not in arguments:
        return Result()
    verb = {"enable": "start", "disable": "stop", "try-restart": "restart", "reload-or-restart": "reload"}.get(verb, verb)
    chosen = [name if "." in name else f"{name}.service" for name in names]
    if verb == "show":
        return Result(out="\n".join(_shown(units, name) for name in chosen))
    if verb in {"is-active", "is-failed", "status"}:
        return _report(units, verb, chosen)
    if verb not in {"start", "stop", "restart", "reload"}:
        return Result(1, err=f"Unknown command verb {verb}.\n")
    for name in chosen:
        unit = units.get(name)
        if unit is None and name not in _ALWAYS_ACTIVE:
            return Result(5, err=f"Failed to {verb} {name}: Unit {name} not found.\n")
        if unit and (problem := await _do(unit, verb)):
            return Result(1, err=f"{problem}\n")
    return Result()


def _shown(units: Mapping[str, Unit], name: str) -> str:
    """The three properties that labctl asks for."""
    unit = units.get(name)
    known = unit is not None or name in _ALWAYS_ACTIVE
    state = unit.state if unit else "active" if known else "inactive"
    return f"Id={name}\nLoadState={'loaded' if known else 'not-found'}\nActiveState={state}\n"


async def _do(unit: Unit, verb: str) -> str:
    if verb == "stop":
        await unit.stop()
        return ""
    if verb == "reload":
        return unit.reload()
    return await (unit.restart() if verb == "restart" else unit.start())


def _report(units: Mapping[str, Unit], verb: str, names: list[str]) -> Result:
    states = [units[name].state if name in units else "active" if name in _ALWAYS_ACTIVE else "unknown" for name in names]
    out = "".join(f"{'inactive' if state == 'unknown' else state}\n" for state in states)
    if verb == "is-failed":
        return Result(0 if "failed" in states else 1, out=out)
    if "active" in states:
        return Result(out=out)
    return Result(UNKNOWN_UNIT if "unknown" in states else NOT_ACTIVE, out=out)
