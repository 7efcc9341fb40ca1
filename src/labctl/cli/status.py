"""`labctl status`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from labctl.cli._options import IdentityOption, JsonOption, LabOption
from labctl.cli._terminal import colour, cut, width

if TYPE_CHECKING:
    from labctl.engine.status import LabStatus

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def status(identity: IdentityOption = None, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Show where the lab stands: layers that are up, their guests and outputs."""
    from labctl.engine.lab import open_lab
    from labctl.engine.status import read_status

    found = read_status(open_lab(lab), tuple(identity or ()))
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return 0
    for line in status_lines(found, width()):
        print(colour(line, "bold", sys.stdout) if line and not line.startswith(" ") else line)
    for problem in found.problems:
        print(f"{colour('warning:', 'yellow', sys.stderr)} {problem}", file=sys.stderr)
    return 0


def status_lines(found: LabStatus, columns: int) -> list[str]:
    """The lab as lines of at most `columns`; headings are not indented."""
    lines = [f"lab {found.lab} on target {found.target}"]
    if not found.layers:
        return [*lines, "  nothing is up; `labctl up` brings it up"]
    for layer in found.layers:
        lines += ["", layer["name"], *_guest_lines(layer["guests"]), *_service_lines(layer.get("services", []))]
        for stack in layer["stacks"]:
            texts = {name: value for name, value in stack["outputs"].items() if isinstance(value, str)}
            name_width = max(map(len, texts), default=0)
            lines += [f"  {name:<{name_width}}  {value}" for name, value in texts.items()]
            lines += [f"  tainted: {address}; the next `labctl up` would replace it" for address in stack.get("tainted", ())]
    return [cut(line, columns) for line in lines]


def services(guest: dict[str, Any]) -> str:
    """The guest's services in a few words: those that are not up by name."""
    states: dict[str, str] = guest.get("services", {})
    if not states:
        return "unknown" if guest["agent"] != "running" else "none"
    down = [f"{name.removesuffix('.service')} {state}" for name, state in states.items() if state != "active"]
    return ", ".join(down) if down else f"{len(states)} up"


def _guest_lines(guests: list[dict[str, Any]]) -> list[str]:
    rows = [(g["name"], str(g["vmid"]), str(g["address"]), g["agent"], g["cloud_init"], services(g)) for g in guests]
    return _table(("GUEST", "VMID", "ADDRESS", "AGENT", "CLOUD-INIT", "SERVICES"), rows)


def _service_lines(found: list[dict[str, Any]]) -> list[str]:
    rows = [(one["name"], one["address"], one["state"], one["health"]) for one in found]
    return _table(("SERVICE", "ADDRESS", "STATE", "HEALTH"), rows)


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[i]) for row in (heading, *rows)) for i in range(len(heading))]
    return [("  " + "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True))).rstrip() for row in (heading, *rows)]
