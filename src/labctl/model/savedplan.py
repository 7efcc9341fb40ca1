"""A plan that is kept, to be looked at and applied later: what it holds of each stack, and when it is stale. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.model.plan import Action, PlanSummary, ResourceChange, StackPlan, StackStatus

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SavedStack:
    """One stack of a saved plan.

    Attributes:
        plan: What was shown; its changes have addresses and actions, and no values.
        content: A hash of the stack's JSON.
        serial: The serial of the state that it was planned on, -1 without one.
        lineage: That state's lineage, "" without one.
        file: The name of Terraform's saved plan, "" where there is only a picture: it is planned again before it is applied.
    """

    plan: StackPlan
    content: str
    serial: int
    lineage: str
    file: str = ""


def as_document(run_id: str, stacks: Sequence[SavedStack]) -> dict[str, Any]:
    """The saved plan for a JSON file."""
    return {"schema": SCHEMA, "run": run_id, "stacks": [_entry(stack) for stack in stacks]}


def _entry(saved: SavedStack) -> dict[str, Any]:
    summary = saved.plan.summary
    changes = [
        {"address": c.address, "type": c.type, "name": c.name, "action": str(c.action)}
        for c in (summary.changes if summary else ())
    ]
    return {
        "name": saved.plan.stack,
        "layer": saved.plan.layer,
        "status": str(saved.plan.status),
        "known_after": list(saved.plan.known_after),
        "changes": changes,
        "outputs": list(summary.outputs if summary else ()),
        "content": saved.content,
        "serial": saved.serial,
        "lineage": saved.lineage,
        "file": saved.file,
    }


def from_document(document: Mapping[str, Any]) -> tuple[SavedStack, ...]:
    """The stacks of a saved plan.

    Raises:
        ValueError: It is not one that this labctl wrote. Likewise KeyError and TypeError.
    """
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']}, expected {SCHEMA}")
    return tuple(_saved(entry) for entry in document["stacks"])


def _saved(entry: Mapping[str, Any]) -> SavedStack:
    changes = tuple(ResourceChange(c["address"], c["type"], c["name"], Action(c["action"])) for c in entry["changes"])
    plan = StackPlan(
        entry["name"],
        entry["layer"],
        StackStatus(entry["status"]),
        PlanSummary(entry["name"], changes, tuple(entry["outputs"])),
        known_after=tuple(entry["known_after"]),
    )
    return SavedStack(plan, str(entry["content"]), int(entry["serial"]), str(entry["lineage"]), str(entry["file"]))


def stale(saved: SavedStack, content: str, serial: int, lineage: str) -> str:
    """Why a stack's saved plan may not be applied any more, "" where it may.

    Args:
        saved: The stack as it was planned.
        content: A hash of its JSON now.
        serial: Its state's serial now.
        lineage: Its state's lineage now.
    """
    if content != saved.content:
        return "its description has changed since"
    if lineage != saved.lineage and saved.serial >= 0:
        return "its state is another one now"
    if serial != saved.serial:
        return f"its state has changed since (serial {saved.serial}, now {serial})"
    return ""
