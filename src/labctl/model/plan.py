"""What a Terraform plan will do, parsed once from `terraform show -json PLANFILE`.

Source of the format: Terraform's "JSON Output Format" documentation, format version 1.x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What a plan does to one resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    READ = "read"
    FORGET = "forget"
    NOTHING = "no-op"


COUNTED = ("add", "change", "replace", "destroy", "import", "move", "forget")
"""The words of `labctl plan --json` for what a plan does; rules in `lab.yaml` use the same."""

_WORDS = {
    Action.CREATE: "add",
    Action.UPDATE: "change",
    Action.REPLACE: "replace",
    Action.DELETE: "destroy",
    Action.FORGET: "forget",
}
_TAINTED = "replace_because_tainted"


class StackStatus(StrEnum):
    """Where a stack stands after planning; the words of `labctl plan --json`."""

    NO_CHANGES = "no changes"
    CHANGES = "changes"
    NOT_DEPLOYED = "not deployed"
    BLOCKED = "blocked"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """One resource in a plan.

    Attributes:
        before: Terraform's attribute values now, None for a create.
        after: The values then, as far as they are known; None for a delete.
        before_sensitive: Mirrors `before`: True where a value is sensitive.
        after_sensitive: Mirrors `after` in the same way.
        after_unknown: Mirrors `after`: True where the value is known after the apply only.
        replace_paths: The attributes that force a replacement.
        reason: Why Terraform chose the action, as its `action_reason` says; "" where that is plain.
    """

    address: str
    type: str
    name: str
    action: Action
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    importing: bool = False
    moved_from: str = ""
    before_sensitive: Any = False
    after_sensitive: Any = False
    after_unknown: Any = False
    replace_paths: tuple[tuple[str | int, ...], ...] = ()
    reason: str = ""

    @property
    def tainted(self) -> bool:
        """Whether it would be made anew only because it carries Terraform's mark of a creation that failed."""
        return self.reason == _TAINTED

    @property
    def words(self) -> tuple[str, ...]:
        """What happens to it, in the words of `COUNTED`: an imported resource may be changed too."""
        found = (_WORDS.get(self.action, ""), "import" if self.importing else "", "move" if self.moved_from else "")
        return tuple(word for word in found if word)


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """A whole plan of one stack.

    Attributes:
        stack: The stack's name.
        changes: Resources that the plan touches; those that stay as they are and data sources are left out.
        outputs: Names of outputs that change.
    """

    stack: str
    changes: tuple[ResourceChange, ...] = ()
    outputs: tuple[str, ...] = ()

    def count(self, action: Action) -> int:
        """How many resources get this action."""
        return sum(1 for change in self.changes if change.action is action)

    @property
    def empty(self) -> bool:
        """Whether applying it would change nothing, outputs included."""
        return not self.changes and not self.outputs

    def counts(self) -> dict[str, int]:
        """The counts of `labctl plan --json`, by the words of `COUNTED`, zeros too."""
        return {word: sum(word in change.words for change in self.changes) for word in COUNTED}


@dataclass(frozen=True, slots=True)
class StackPlan:
    """A stack's place in the picture of all plans.

    Attributes:
        known_after: Upstream stacks that must be applied first.
        reason: Why there is no plan.
        skipped: It was never deployed and nobody looks: it is planned and applied at once.
    """

    stack: str
    layer: str
    status: StackStatus
    summary: PlanSummary | None = None
    known_after: tuple[str, ...] = ()
    reason: str = ""
    skipped: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The entry in `labctl plan --json`."""
        counts = self.summary.counts() if self.summary else dict.fromkeys(COUNTED, 0)
        return {
            "name": self.stack,
            "layer": self.layer,
            "status": str(self.status),
            **counts,
            "known_after": list(self.known_after),
            **({"reason": self.reason} if self.reason else {}),
        }


def parse_plan(stack: str, document: Mapping[str, Any]) -> PlanSummary:
    """The summary of a plan.

    Args:
        stack: The stack's name.
        document: What `terraform show -json PLANFILE` printed.
    """
    changes = tuple(change for change in _changes(document, "resource_changes") if not _silent(change))
    outputs = tuple(sorted(name for name, item in document.get("output_changes", {}).items() if item.get("actions") != ["no-op"]))
    return PlanSummary(stack, changes, outputs)


def parse_drift(document: Mapping[str, Any]) -> dict[str, ResourceChange]:
    """What the plan's refresh found changed since the state was written, by address: from the state (`before`) to the world.

    It has all that differs, also what nobody manages and what only looks different.
    """
    return {change.address: change for change in _changes(document, "resource_drift")}


def _changes(document: Mapping[str, Any], part: str) -> Iterator[ResourceChange]:
    return (_change(item) for item in document.get(part, ()) if item.get("mode", "managed") == "managed")


def _silent(change: ResourceChange) -> bool:
    return change.action in (Action.NOTHING, Action.READ) and not change.importing and not change.moved_from


def _change(item: Mapping[str, Any]) -> ResourceChange:
    change = item["change"]
    return ResourceChange(
        address=item["address"],
        type=item["type"],
        name=item["name"],
        action=_action(change["actions"]),
        before=change.get("before"),
        after=change.get("after"),
        importing=bool(change.get("importing")),
        moved_from=item.get("previous_address", ""),
        before_sensitive=change.get("before_sensitive", False),
        after_sensitive=change.get("after_sensitive", False),
        after_unknown=change.get("after_unknown", False),
        replace_paths=tuple(tuple(path) for path in change.get("replace_paths", ())),
        reason=item.get("action_reason", ""),
    )


def _action(actions: list[str]) -> Action:
    if len(actions) == 2:
        return Action.REPLACE
    return Action(actions[0])
