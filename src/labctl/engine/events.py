"""What a run says while it goes: one stream of events, read by the live view, the plain lines, `--json` and the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Sink = Callable[["Event"], None]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        type: `run`, `stage`, `stacks`, `stack`, `stack_plan`, `resource`, `step`, `progress`, `note`, `warning`, `plan`, `error`
            or `report`. A `progress` is of use only until the next event.
        text: A line for people.
        stack: The stack it is about, "" for the run itself.
        fields: More for programs; names are stable.
    """

    type: str
    text: str = ""
    stack: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The event as `--json` prints it."""
        out: dict[str, Any] = {"type": self.type}
        if self.stack:
            out["stack"] = self.stack
        if self.text:
            out["text"] = self.text
        return {**out, **self.fields}
