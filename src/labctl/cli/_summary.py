"""The last lines of a run: what came of each stack, where things are and how to get at them. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.engine.status import Endpoint


def counts_text(stack: Mapping[str, Any]) -> str:
    """` (8 added, 1 changed)` from a stack's entry in the report; empty where nothing was done."""
    from labctl.model.reportformats import counts_words

    counts = counts_words(stack)
    return f" ({counts})" if counts else ""


def endpoint_lines(found: Sequence[Endpoint], columns: int, *, on_sandbox: bool) -> list[str]:
    """Where to go, and with which command to get in; the command goes below where the line is too narrow for it."""
    if not found:
        return []
    name_width = max(len(one.name) for one in found)
    address_width = max(len(one.address) for one in found)
    lines = []
    for one in found:
        line = f"  {one.name:<{name_width}}  {one.address:<{address_width}}"
        if not one.access:
            lines.append(line.rstrip())
        elif len(line) + 2 + len(one.access) <= columns:
            lines.append(f"{line}  {one.access}")
        else:
            lines += [line.rstrip(), " " * (name_width + 4) + one.access]
    emulated = [one.name for one in found if not one.answers]
    if on_sandbox and emulated:
        *others, last = emulated
        names = f"{', '.join(others)} and {last}" if others else last
        remark = f"On the sandbox nothing answers at {names}: their guests are only emulated."
        lines += ["  " + line for line in textwrap.wrap(remark, max(20, columns - 2))]
    return lines
