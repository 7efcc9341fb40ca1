"""Faults that a test can switch on: answers of the API, and tasks that fail or take long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from labctl.sandbox.pve.errors import invalid


@dataclass(slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: `http` or `task`.
        method: Regular expression on the method (http).
        path: Regular expression, searched in the path without `/api2/json` (http).
        type: Regular expression on the task's type, such as `qmstart` (task).
        after: How many matching requests or tasks pass before it strikes.
        times: How often it strikes; 0 for always.
        status: HTTP status to answer with.
        message: The sentence in the status line, or the task's exit status.
        body: A body of its own (say, a proxy's HTML page) instead of PVE's JSON.
        drop: `before` closes the connection instead of doing anything, `after` does it and then closes.
        delay_s: Seconds to wait first.
    """

    kind: str = "http"
    method: str = ""
    path: str = ""
    type: str = ""
    after: int = 0
    times: int = 1
    status: int = 0
    message: str = ""
    body: str = ""
    drop: str = ""
    delay_s: float = 0.0
    seen: int = field(default=0)
    struck: int = field(default=0)

    def strikes(self) -> bool:
        """Count a match, and say whether the fault is due."""
        self.seen += 1
        if self.seen <= self.after or (self.times and self.struck >= self.times):
            return False
        self.struck += 1
        return True


def parse_fault(raw: Mapping[str, Any]) -> Fault:
    """A fault from what a client sent.

    Raises:
        ApiError: 400, for an unknown field or a value that cannot be.
    """
    known = {"kind": str, "method": str, "path": str, "type": str, "after": int, "times": int, "status": int, "message": str}
    known |= {"body": str, "drop": str, "delay_s": float}
    problems = {name: f"unknown; known: {', '.join(known)}" for name in raw if name not in known}
    for name, kind in known.items():
        value = raw.get(name)
        if value is not None and not isinstance(value, (int, float) if kind is float else kind):
            problems[name] = f"must be a {kind.__name__}"
    if raw.get("kind", "http") not in {"http", "task"}:
        problems["kind"] = "must be http or task"
    if raw.get("drop", "") not in {"", "before", "after"}:
        problems["drop"] = "must be before or after"
    for name in ("method", "path", "type"):
        try:
            re.compile(str(raw.get(name, "")))
        except re.error as error:
            problems[name] = f"no regular expression: {error}"
    if problems:
        raise invalid(**problems)
    return Fault(**raw)


class Faults:
    """The faults that are switched on, in order; the first that is due strikes."""

    def __init__(self) -> None:
        self._active: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Switch a fault on."""
        self._active.append(fault)

    def clear(self) -> None:
        """Switch all off."""
        self._active.clear()

    def listed(self) -> list[dict[str, Any]]:
        """The faults with how often each was seen and struck."""
        return [asdict(fault) for fault in self._active]

    def for_request(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request."""
        for fault in self._active:
            matches = fault.kind == "http" and re.fullmatch(fault.method or ".*", method) and re.search(fault.path, path)
            if matches and fault.strikes():
                return fault
        return None

    def for_task(self, kind: str) -> Fault | None:
        """The fault that strikes a task of this type."""
        for fault in self._active:
            if fault.kind == "task" and re.search(fault.type, kind) and fault.strikes():
                return fault
        return None
