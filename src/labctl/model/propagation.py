"""Plans that propagate: a downstream stack planned as if its upstreams had been applied.

A plan of a downstream stack reads its upstreams' outputs from their states, as they were. Where an upstream is about to change,
that plan is wrong, and "No changes" may be a lie. So the JSON of the stack is copied, and each reference to an output of an
upstream becomes a local: known values go in as they are planned, and what is unknown until the apply becomes a reference to a
resource that does not exist yet, unknown to Terraform by nature. The copy is planned, shown, and never applied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = "terraform_data.labctl_unknown"
"""The resource that stands for what is not known yet; it is in no count."""

_LOCAL = "labctl_planned_"


@dataclass(frozen=True, slots=True)
class PlannedOutputs:
    """A stack's outputs after its plan.

    Attributes:
        known: Values by output.
        unknown: What is known after the apply only: True for a whole value, or the same shape as the value with True inside.
    """

    known: Mapping[str, Any] = field(default_factory=dict)
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything is known already."""
        return not any(_has_unknown(shape) for shape in self.unknown.values())

    def same_as(self, outputs: Mapping[str, Any] | None) -> bool:
        """Whether these are the outputs that the state has, so that a plan on the state stands."""
        return outputs is not None and self.complete and dict(self.known) == dict(outputs)


def planned_outputs(document: Mapping[str, Any]) -> PlannedOutputs:
    """The outputs that a plan leads to.

    Args:
        document: What `terraform show -json PLANFILE` printed.
    """
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, change in document.get("output_changes", {}).items():
        if change.get("actions") == ["delete"]:
            continue
        shape = change.get("after_unknown")
        if shape is True:
            unknown[name] = True
            continue
        known[name] = change.get("after")
        if _has_unknown(shape):
            unknown[name] = shape
    return PlannedOutputs(known, unknown)


def propagate(document: Mapping[str, Any], upstreams: Mapping[str, PlannedOutputs]) -> dict[str, Any]:
    """The stack's JSON with its upstreams' planned outputs in place of their states, and its own state in the folder itself.

    Args:
        document: The stack's `cdk.tf.json`.
        upstreams: The planned outputs of each stack that it reads, by the name that its remote state has in the document.
    """
    patterns = [
        (re.compile(rf"\bdata\.terraform_remote_state\.{re.escape(name)}\.outputs\b"), f"local.{_LOCAL}{_identifier(name)}")
        for name in upstreams
    ]
    changed: dict[str, Any] = _rewritten({key: value for key, value in document.items() if key != "data"}, patterns)
    data = {kind: dict(blocks) for kind, blocks in document.get("data", {}).items()}
    remote = data.get("terraform_remote_state", {})
    defaults = {name: remote.get(name, {}).get("defaults") or {} for name in upstreams}
    for name in upstreams:
        remote.pop(name, None)
    kept = {kind: _rewritten(blocks, patterns) for kind, blocks in data.items() if blocks}
    if kept:
        changed["data"] = kept
    # Without a backend the state lies in the folder itself, and a folder that is set up needs no `init` for it.
    changed["terraform"] = {key: value for key, value in changed.get("terraform", {}).items() if key not in ("backend", "cloud")}
    changed["locals"] = {
        **changed.get("locals", {}),
        **{f"{_LOCAL}{_identifier(name)}": {**defaults.get(name, {}), **_object(outputs)} for name, outputs in upstreams.items()},
    }
    if not all(outputs.complete for outputs in upstreams.values()):
        kind, name = UNKNOWN.split(".")
        resources = dict(changed.get("resource", {}))
        resources[kind] = {**resources.get(kind, {}), name: {}}
        changed["resource"] = resources
    return changed


def _object(outputs: PlannedOutputs) -> dict[str, Any]:
    names = {**outputs.known, **outputs.unknown}
    return {name: _expression(outputs.known.get(name), outputs.unknown.get(name)) for name in names}


def _expression(value: Any, unknown: Any) -> Any:
    if unknown is True:
        return f"${{{UNKNOWN}.id}}"
    if isinstance(value, dict) or isinstance(unknown, dict):
        values, shapes = value or {}, unknown or {}
        return {_text(key): _expression(values.get(key), shapes.get(key)) for key in {**values, **shapes}}
    if isinstance(value, list) or isinstance(unknown, list):
        values, shapes = value or [], unknown or []
        length = max(len(values), len(shapes))
        padded = [*shapes, *[None] * (length - len(shapes))]
        return [_expression(values[i] if i < len(values) else None, padded[i]) for i in range(length)]
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """Literal text: neither an interpolation nor a directive."""
    return value.replace("${", "$${").replace("%{", "%%{")


def _rewritten(node: Any, patterns: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(node, Mapping):
        # A key is a template like any other text.
        return {_rewritten(key, patterns): _rewritten(value, patterns) for key, value in node.items()}
    if isinstance(node, list):
        return [_rewritten(value, patterns) for value in node]
    if isinstance(node, str):
        for pattern, local in patterns:
            node = pattern.sub(local, node)
    return node


def _has_unknown(shape: Any) -> bool:
    if isinstance(shape, Mapping):
        return any(_has_unknown(value) for value in shape.values())
    if isinstance(shape, list):
        return any(_has_unknown(value) for value in shape)
    return shape is True


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
