"""Terraform's `-json` lines, parsed once into frozen events.

Source: Terraform, "Machine-Readable UI" (format 1.x); OpenTofu writes the same. An unknown type and a line that is not JSON
become `Log`: a newer engine may say more, and nothing that it says is lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.adapters.terraform.diagnostics import Diagnostic, diagnostic_from_json, plain


@dataclass(frozen=True, slots=True)
class Event:
    """One line of Terraform.

    Attributes:
        message: The sentence for people.
        level: "trace", "debug", "info", "warn" or "error".
        timestamp: When, as Terraform wrote it (RFC 3339), "" when it did not.
    """

    message: str
    level: str = "info"
    timestamp: str = ""


@dataclass(frozen=True, slots=True)
class Log(Event):
    """Anything that has no type of its own here: init output, log lines, what a newer engine adds."""

    kind: str = "log"


@dataclass(frozen=True, slots=True)
class Version(Event):
    """The first line: which engine speaks."""

    engine_version: str = ""
    ui: str = ""


@dataclass(frozen=True, slots=True)
class PlannedChange(Event):
    """What will be done to one resource: `create`, `update`, `replace`, `delete`, `read`, `move`, `import`, `remove`."""

    address: str = ""
    resource_type: str = ""
    action: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResourceDrift(Event):
    """A resource that changed outside of Terraform: `update`, `delete` or `move`."""

    address: str = ""
    resource_type: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class ChangeSummary(Event):
    """The totals of a plan, an apply or a destroy (`operation`)."""

    add: int = 0
    change: int = 0
    remove: int = 0
    imported: int = 0
    operation: str = ""


@dataclass(frozen=True, slots=True)
class ResourceProgress(Event):
    """One resource on its way.

    Attributes:
        kind: "apply", "refresh", "provision" or "ephemeral_op".
        phase: "start", "progress", "complete" or "errored".
        address: The resource's address.
        action: "create", "update", "delete" … for `apply`, else "".
        id: The resource's id where Terraform says it (`id_value`), else "".
        elapsed_s: Seconds since its start, whole.
    """

    kind: str = "apply"
    phase: str = "start"
    address: str = ""
    action: str = ""
    id: str = ""
    elapsed_s: int = 0


@dataclass(frozen=True, slots=True)
class OutputChange:
    """One output in a plan or an apply: `action` when planned, `value` when applied and not sensitive."""

    sensitive: bool
    action: str = ""
    value: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Outputs(Event):
    """The root module's outputs by name."""

    outputs: Mapping[str, OutputChange] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Complaint(Event):
    """A diagnostic in the stream."""

    diagnostic: Diagnostic = field(default_factory=lambda: Diagnostic("error", ""))


_PHASES = ("start", "progress", "complete", "errored")
_KINDS = ("apply", "refresh", "provision", "ephemeral_op")
_PROGRESS = {f"{kind}_{phase}": (kind, phase) for kind in _KINDS for phase in _PHASES}


def parse_line(line: str) -> Event | None:
    """Turns one line of a `-json` command into an event; None for an empty line. Never raises on what Terraform writes."""
    text = line.strip()
    if not text:
        return None
    try:
        shape = json.loads(text)
    except ValueError:
        return _log(plain(text))
    if not isinstance(shape, dict) or "@message" not in shape:
        return _log(plain(text))
    return _typed(shape)


def _log(text: str) -> Log | None:
    return Log(text.strip()) if text.strip() else None


def _typed(shape: Mapping[str, Any]) -> Event:
    head = (str(shape["@message"]).strip(), str(shape.get("@level", "info")), str(shape.get("@timestamp", "")))
    kind = str(shape.get("type", "log"))
    if kind in _PROGRESS:
        return _progress(head, *_PROGRESS[kind], _sub(shape, "hook"))
    match kind:
        case "version":
            return Version(*head, str(shape.get("terraform") or shape.get("tofu") or ""), str(shape.get("ui", "")))
        case "diagnostic":
            return Complaint(*head, diagnostic_from_json(_sub(shape, "diagnostic")))
        case "planned_change":
            change = _sub(shape, "change")
            return PlannedChange(*head, *_resource(change), str(change.get("action", "")), str(change.get("reason", "")))
        case "resource_drift":
            change = _sub(shape, "change")
            return ResourceDrift(*head, *_resource(change), str(change.get("action", "")))
        case "change_summary":
            return _summary(head, _sub(shape, "changes"))
        case "outputs":
            return Outputs(*head, {name: _output(value) for name, value in _sub(shape, "outputs").items()})
    return Log(*head, kind)


def _sub(shape: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = shape.get(name)
    return part if isinstance(part, Mapping) else {}


def _resource(change: Mapping[str, Any]) -> tuple[str, str]:
    resource = _sub(change, "resource")
    return str(resource.get("addr", "")), str(resource.get("resource_type", ""))


def _summary(head: tuple[str, str, str], changes: Mapping[str, Any]) -> ChangeSummary:
    add, change, remove, imported = (_whole(changes.get(name)) for name in ("add", "change", "remove", "import"))
    return ChangeSummary(*head, add, change, remove, imported, str(changes.get("operation", "")))


def _progress(head: tuple[str, str, str], kind: str, phase: str, hook: Mapping[str, Any]) -> ResourceProgress:
    return ResourceProgress(
        *head,
        kind=kind,
        phase=phase,
        address=_resource(hook)[0],
        action=str(hook.get("action", "")),
        id=str(hook.get("id_value", "")),
        elapsed_s=_whole(hook.get("elapsed_seconds")),
    )


def _output(shape: object) -> OutputChange:
    part = shape if isinstance(shape, Mapping) else {}
    return OutputChange(bool(part.get("sensitive")), str(part.get("action", "")), part.get("value"))


def _whole(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
