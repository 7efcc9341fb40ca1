"""What an update or a replacement changes in a resource, attribute by attribute, and what such a change does not reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.model.plan import Action, PlanSummary, ResourceChange

SNIPPET = "proxmox_virtual_environment_file"
_GUESTS = ("proxmox_virtual_environment_vm", "proxmox_virtual_environment_container")


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """One attribute that becomes another.

    Attributes:
        path: As `memory.dedicated` or `disk[1].size`; the only block of its kind needs no index.
        before: Its value now; None where there is none, and where it is sensitive.
        after: Its value then; None where there is none, where it is sensitive, and where it is not known yet.
        sensitive: The values must not be shown.
        unknown: The new value is known after the apply only.
        replaces: It is this that forces a replacement.
        keys: The path in its parts, each with its index.
    """

    path: str
    before: Any = None
    after: Any = None
    sensitive: bool = False
    unknown: bool = False
    replaces: bool = False
    keys: tuple[str | int, ...] = field(default=(), compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The entry in the `stack_plan` events."""
        marks = {name: True for name in ("sensitive", "unknown", "replaces") if getattr(self, name)}
        return {"path": self.path, "before": self.before, "after": self.after, **marks}


@dataclass(frozen=True, slots=True)
class _Side:
    """A place in the trees that describe one side of a change: value and whether it is sensitive."""

    value: Any
    sensitive: Any

    def at(self, key: str | int) -> _Side:
        return _Side(_at(self.value, key), _below(self.sensitive, key))


def attribute_changes(change: ResourceChange) -> tuple[AttributeChange, ...]:
    """The attributes that differ; empty for a create and a delete, where all of them do.

    What a replacement computes anew (ids, sizes) is left out, else the one attribute that forces it would be lost among them.
    """
    if change.action not in (Action.UPDATE, Action.REPLACE) or change.before is None or change.after is None:
        return ()
    before = _Side(change.before, change.before_sensitive)
    after = _Side(change.after, change.after_sensitive)
    forced = set(change.replace_paths)
    found = []
    for keys, old, new, unknown in _walk((), before, after, change.after_unknown):
        replaces = any(keys[: len(path)] == path or path[: len(keys)] == keys for path in forced)
        if unknown and change.action is Action.REPLACE and not replaces:
            continue
        path = _path(keys, change)
        if _holds_true(old.sensitive) or _holds_true(new.sensitive):
            found.append(AttributeChange(path, sensitive=True, unknown=unknown, replaces=replaces, keys=keys))
        else:
            value = None if unknown else new.value
            found.append(AttributeChange(path, old.value, value, unknown=unknown, replaces=replaces, keys=keys))
    return tuple(found)


def reaches_only_new_guests(plan: PlanSummary) -> tuple[str, ...]:
    """Names of the guests that go on with the cloud-init of their first boot although the plan edits it.

    Guests refer to their user-data by name, because the provider would replace a guest whose document it can follow.
    """
    fresh = {c.name for c in plan.changes if c.type in _GUESTS and c.action in (Action.CREATE, Action.REPLACE, Action.DELETE)}
    return tuple(
        change.name
        for change in plan.changes
        if change.type == SNIPPET and change.action in (Action.UPDATE, Action.REPLACE) and change.name not in fresh
    )


def _walk(
    keys: tuple[str | int, ...], before: _Side, after: _Side, unknown: Any
) -> Iterator[tuple[tuple[str | int, ...], _Side, _Side, bool]]:
    if unknown is True:
        yield keys, before, after, True
        return
    children = _children(before.value, after.value, unknown)
    if children is None:
        if before.value != after.value:
            yield keys, before, after, False
        return
    for key in children:
        yield from _walk((*keys, key), before.at(key), after.at(key), _below(unknown, key))


def _children(before: Any, after: Any, unknown: Any) -> list[str] | list[int] | None:
    """The keys to go on with; None where the values are to be compared as a whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        more = unknown.keys() if isinstance(unknown, Mapping) else ()
        return sorted({*before, *after, *more})
    if isinstance(before, list) and isinstance(after, list) and all(isinstance(item, Mapping) for item in (*before, *after)):
        return list(range(max(len(before), len(after))))
    return None


def _at(value: Any, key: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(str(key))
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _below(marks: Any, key: str | int) -> Any:
    return True if marks is True else _at(marks, key) or False


def _holds_true(marks: Any) -> bool:
    if isinstance(marks, Mapping):
        return any(_holds_true(item) for item in marks.values())
    if isinstance(marks, list):
        return any(_holds_true(item) for item in marks)
    return marks is True


def _path(keys: tuple[str | int, ...], change: ResourceChange) -> str:
    text, before, after = "", change.before, change.after
    for key in keys:
        if isinstance(key, int):
            several = max(len(side) if isinstance(side, list) else 0 for side in (before, after)) > 1
            text += f"[{key}]" if several else ""
        else:
            text += f".{key}" if text else key
        before, after = _at(before, key), _at(after, key)
    return text
