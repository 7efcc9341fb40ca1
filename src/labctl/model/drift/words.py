"""What a finding says: one sentence with names and values."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labctl.model.drift.finding import MASK, Change
from labctl.model.drift.rules import COMPOSE, FILE, VM
from labctl.model.plan import ResourceChange

_MOST = 4
"""How many attributes a sentence names; the finding has all."""
_LONGEST = 60
_SERVICE = re.compile(r"services\.(?P<name>.+)\.(?P<what>[a-z_]+)")
_CONFIG_HASHES = {"config_hash": "its configuration", "content_hash": "its secrets or files"}


@dataclass(frozen=True, slots=True)
class Place:
    """The guest that something is, or is set for, and its node; "" where there is none."""

    guest: str = ""
    node: str = ""


def subject(change: ResourceChange, place: Place) -> str:
    """What a resource is, for people."""
    if change.type == VM and place.guest:
        return f"guest {place.guest}"
    if change.type == COMPOSE:
        values = change.after or change.before or {}
        return f"Compose project {values.get('name') or change.name}"
    if change.type == FILE and place.guest:
        return f"snippet of guest {place.guest}"
    if place.guest:
        words = change.type.removeprefix("proxmox_").removeprefix("virtual_environment_").replace("_", " ")
        return f"{words} of guest {place.guest}"
    return change.address


def changes_text(what: str, changes: Sequence[Change], *, replaced: bool = False, pending: bool = False) -> str:
    """One sentence about the attributes of a resource that differ."""
    said = [_phrase(change) for change in changes[:_MOST]]
    more = f" and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
    end = "; an apply would replace it" if replaced else ""
    return f"{what}: {'; '.join(said)}{more}{' (not applied yet)' if pending else ''}{end}"


def _phrase(change: Change) -> str:
    if change.path == "started" and MASK not in (change.before, change.after):
        return "runs, should be off" if change.after else "is off, should run"
    service = _SERVICE.fullmatch(change.path)
    if service is not None and service["what"] in _CONFIG_HASHES:
        return f"service {service['name']} differs in {_CONFIG_HASHES[service['what']]}"
    called = f"{service['what']} of service {service['name']}" if service else change.path
    if change.path.startswith("services.") and "." not in change.path.removeprefix("services."):
        name = change.path.removeprefix("services.")
        return f"service {name} is not there" if change.after is None else f"service {name} is there, though it should not"
    return f"{called} is {shown(change.after)}, should be {shown(change.before)}"


def shown(value: Any) -> str:
    """A value as a sentence shows it: short, on one line."""
    if value is None:
        return "not set"
    text = " ".join((value if isinstance(value, str) else json.dumps(value, default=str)).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return text or '""'
