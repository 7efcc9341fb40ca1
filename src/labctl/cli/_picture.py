"""The picture of all plans, for people. Pure: lines out of plans."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labctl.cli._terminal import colour, cut, width
from labctl.model.difference import AttributeChange, attribute_changes, reaches_only_new_guests
from labctl.model.plan import Action, ResourceChange, StackPlan, StackStatus

Paint = Callable[[str, str], str]

_SIGNS = {
    Action.CREATE: ("+", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.REPLACE: ("±", "red"),
    Action.DELETE: ("-", "red"),
    Action.FORGET: (".", "dim"),
    Action.NOTHING: (".", "dim"),
    Action.READ: (".", "dim"),
}
_MOST_LINES = 8
_MASK = "(sensitive)"


def show_picture(plans: Sequence[StackPlan]) -> None:
    """Prints each stack with what would happen to its resources."""
    for line in picture(plans, width(), lambda text, tone: colour(text, tone, sys.stdout)):
        print(line)


def picture(plans: Sequence[StackPlan], columns: int, paint: Paint = lambda text, _tone: text) -> list[str]:
    """The lines of the picture, none longer than `columns`.

    Args:
        plans: The plans in order.
        columns: How wide a line may be.
        paint: Gives a text its colour; by default there is none.
    """
    lines = []
    for plan in plans:
        words = cut(f": {_status(plan)}", columns - len(plan.stack))
        lines.append(paint(plan.stack, "bold") + words)
        if plan.summary is None:
            continue
        for change in plan.summary.changes:
            lines += _resource(change, columns, paint)
        for name in reaches_only_new_guests(plan.summary):
            lines += _note(
                f"guest {name} keeps the cloud-init of its first boot: the edit reaches only new guests", columns, paint
            )
        if not plan.summary.changes:
            lines += [f"  {paint('~', 'yellow')} " + cut(f"output {name}", columns - 4) for name in plan.summary.outputs]
    return lines


def _status(plan: StackPlan) -> str:
    words = str(plan.status)
    if plan.known_after and plan.summary is None and plan.status is StackStatus.NOT_DEPLOYED:
        words += f", planned when {' and '.join(plan.known_after)} is up"
    if plan.known_after and plan.status is StackStatus.CHANGES:
        words += f", some known only after {' and '.join(plan.known_after)} is applied"
    if plan.reason and plan.status is not StackStatus.ERROR:  # an error was told already
        words += f": {plan.reason}"
    counts = plan.summary.counts() if plan.summary else {}
    parts = [f"{n} to {w}" for w, n in counts.items() if n]
    return f"{words} ({', '.join(parts)})" if parts else words


def _resource(change: ResourceChange, columns: int, paint: Paint) -> list[str]:
    sign, tone = _SIGNS[change.action]
    extra = _extra(change)
    lines = [f"  {paint(sign, tone)} " + cut(f"{change.address}{extra}", columns - 4)]
    facts = _facts(change)
    if facts and len(change.address) + len(extra) + len(facts) + 6 <= columns:
        lines[0] += "  " + paint(facts, "dim")
    elif facts:
        lines.append("      " + paint(cut(facts, columns - 6), "dim"))
    for attribute in attribute_changes(change):
        lines += _attribute(attribute, columns, paint)
    return lines


def _extra(change: ResourceChange) -> str:
    """What the sign does not say."""
    if change.action is Action.FORGET:
        return " (forgotten: it stays, and Terraform lets go of it)"
    if change.importing:
        return " (import)"
    if change.moved_from:
        return f" (was {change.moved_from})"
    return " (tainted)" if change.tainted else ""


def _facts(change: ResourceChange) -> str:
    """What tells a resource that comes or goes from others of its kind."""
    side = change.after if change.action is Action.CREATE else change.before if change.action is Action.DELETE else None
    if not side:
        return ""
    describe = _DESCRIBED.get(change.type)
    return ", ".join(part for part in describe(side) if part) if describe else ""


def _guest(side: Mapping[str, Any]) -> list[str]:
    cores, memory_mib = _first(side, "cpu").get("cores"), _first(side, "memory").get("dedicated")
    sizes_gib = [disk.get("size") for disk in side.get("disk") or () if disk.get("size")]
    return [
        f"vmid {side['vm_id']}" if side.get("vm_id") else "",
        str(side.get("name") or ""),
        _count(int(cores), "core") if cores else "",
        f"{memory_mib} MiB" if memory_mib else "",
        f"{' + '.join(str(size) for size in sizes_gib)} GiB" if sizes_gib else "",
    ]


def _snippet(side: Mapping[str, Any]) -> list[str]:
    name = _first(side, "source_raw").get("file_name") or side.get("file_name")
    return [f"{side.get('datastore_id')}:{side.get('content_type')}/{name}" if name else ""]


def _download(side: Mapping[str, Any]) -> list[str]:
    return [f"{side.get('datastore_id')}:{side.get('content_type')}/{side.get('file_name')}"]


_DESCRIBED: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "proxmox_virtual_environment_vm": _guest,
    "proxmox_virtual_environment_container": _guest,
    "proxmox_virtual_environment_file": _snippet,
    "proxmox_download_file": _download,
    "proxmox_virtual_environment_pool": lambda side: [str(side.get("pool_id") or "")],
    "proxmox_virtual_environment_firewall_rules": lambda side: [_count(len(side.get("rule") or ()), "rule")],
}


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _first(side: Mapping[str, Any], block: str) -> Mapping[str, Any]:
    found = side.get(block)
    first = found[0] if isinstance(found, list) and found else found
    return first if isinstance(first, Mapping) else {}


def _attribute(attribute: AttributeChange, columns: int, paint: Paint) -> list[str]:
    forces = "  (forces replacement)" if attribute.replaces else ""
    head = f"      {attribute.path}"
    before, after = attribute.before, attribute.after
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        return [cut(f"{head}:{forces}", columns), *_text_difference(before, after, columns, paint)]
    old = _MASK if attribute.sensitive else _value(before)
    new = "(known after apply)" if attribute.unknown else _MASK if attribute.sensitive else _value(after)
    room = columns - len(head) - len(forces) - 5
    if len(old) + len(new) > room:
        # Either value may be long: both keep a part.
        half = max(8, room // 2)
        old, new = cut(old, max(half, room - len(new))), cut(new, max(half, room - len(old)))
    return [cut(f"{head}: {old} → {new}{forces}", columns)]


def _text_difference(before: str, after: str, columns: int, paint: Paint) -> list[str]:
    """The lines of a document that go and come, without their surroundings."""
    tones = {"-": "red", "+": "green"}
    # The first two lines name the files, of which there are none.
    difference = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[2:]
    changed = [line for line in difference if line[:1] in tones]
    lines = [f"        {paint(line[0], tones[line[0]])} {cut(line[1:], columns - 10)}" for line in changed[:_MOST_LINES]]
    more = len(changed) - len(lines)
    return [*lines, f"        … {more} more lines"] if more else lines


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value) or '""'


def _note(text: str, columns: int, paint: Paint) -> list[str]:
    import textwrap

    wrapped = textwrap.wrap(text, max(20, columns - 4))
    return [("  " + paint("!", "yellow") + " " if i == 0 else "    ") + line for i, line in enumerate(wrapped)]
