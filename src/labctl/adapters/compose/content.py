"""Marks each service of a Compose file with a keyed hash of what Compose's own hash does not see. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from labctl.adapters.compose.errors import ComposeInvalid
from labctl.model.compose import CONTENT_LABEL, ComposeProject

REDEPLOY_LABEL = "labctl.redeploy"
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)|([A-Za-z_][A-Za-z0-9_]*))")
# `${NAME:-default}` and `${NAME:+value}` mean something without the variable.
_NEEDED = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?!:?[-+]|[A-Za-z0-9_])|([A-Za-z_][A-Za-z0-9_]*))")


def marked(project: ComposeProject) -> str:
    """The Compose file with the labels.

    Raises:
        ComposeInvalid: It is no YAML, or not of the shape of a Compose file, and names the line; or takes a variable that the
            project has no secret for.
    """
    document = _parse(project)
    where = f"project {project.name}"
    services = document.get("services")
    if not isinstance(services, dict) or not services:
        raise ComposeInvalid("has no services", where=where)
    if wrong := next(_misshapen(document), ""):
        raise ComposeInvalid(wrong, where=where)
    if unknown := sorted(_needed(document) - set(project.secrets)):
        raise ComposeInvalid(
            f"its Compose file takes {', '.join(unknown)} from the environment, and there is no such secret",
            where=where,
            hint="Name each in `secrets`, with its path#field. A dollar sign that is meant for the container is written `$$`.",
        )
    for service in services.values():
        labels = _labels(service.get("labels"))
        if content := _content(service, document, project):
            labels[CONTENT_LABEL] = content
        if project.redeploy:
            labels[REDEPLOY_LABEL] = project.redeploy.replace("$", "$$")
        if labels:
            service["labels"] = labels
    out = StringIO()
    _yaml().dump(document, out)
    return out.getvalue()


def listed(project: ComposeProject) -> tuple[str, ...]:
    """The names of the services in the order of the file."""
    return tuple(_parse(project).get("services") or ())


def variables(text: str) -> frozenset[str]:
    """The variables that a text takes from its environment."""
    return frozenset(braced or plain for braced, plain in _VARIABLE.findall(text) if braced or plain)


def _needed(document: Mapping[str, Any]) -> frozenset[str]:
    """The variables without which Compose would put nothing in their place, and go on."""
    read = {name: part for name, part in document.items() if not str(name).startswith("x-")}
    needed = {braced or plain for braced, plain in _NEEDED.findall(json.dumps(read, default=str)) if braced or plain}
    secrets = (document.get("secrets") or {}).values()
    return frozenset(needed | {str(one["environment"]) for one in secrets if isinstance(one, dict) and "environment" in one})


def content_hash(project: ComposeProject) -> str:
    """One hash over all secrets of a project, "" without any. It changes when one of them is rotated."""
    return _keyed(project, {name: value.reveal() for name, value in project.secrets.items()}) if project.secrets else ""


def _content(service: Mapping[str, Any], document: Mapping[str, Any], project: ComposeProject) -> str:
    """The hash of all that a service refers to, "" where that is nothing."""
    parts: dict[str, Any] = {}
    for kind in ("secrets", "configs"):
        known = document.get(kind) or {}
        for name in _references(service.get(kind)):
            parts[f"{kind}.{name}"] = known.get(name)
    used = variables(json.dumps(service, default=str)) | variables(json.dumps(parts, default=str))
    # A secret of kind `environment` names its variable without a dollar sign.
    used |= {str(part["environment"]) for part in parts.values() if isinstance(part, dict) and "environment" in part}
    values = {name: project.secrets[name].reveal() for name in sorted(used) if name in project.secrets}
    return _keyed(project, {"parts": parts, "values": values}) if parts or values else ""


def _misshapen(document: Mapping[str, Any]) -> Iterator[str]:
    """What is of another shape than is looked into here; the rest is for Compose to judge."""
    for kind in ("secrets", "configs"):
        if not isinstance(document.get(kind) or {}, dict):
            yield f"{kind} is not a mapping"
    for name, service in document["services"].items():
        if not isinstance(service, dict):
            yield f"services.{name} is not a mapping"
            continue
        for kind in ("secrets", "configs"):
            if not isinstance(service.get(kind) or [], list):
                yield f"services.{name}.{kind} is not a list"
        if not isinstance(service.get("labels") or {}, dict | list):
            yield f"services.{name}.labels is neither a mapping nor a list"


def _keyed(project: ComposeProject, value: Any) -> str:
    key = project.content_key.reveal().encode() if project.content_key else b""
    return hmac.new(key, json.dumps(value, sort_keys=True, default=str).encode(), hashlib.sha256).hexdigest()


def _references(entries: Any) -> Iterator[str]:
    for entry in entries or ():
        yield str(entry.get("source") if isinstance(entry, dict) else entry)


def _labels(value: Any) -> dict[str, str]:
    """Labels in both ways in which Compose allows them."""
    if isinstance(value, list):
        pairs = (str(entry).partition("=") for entry in value)
        return {name: text for name, _, text in pairs}
    return {str(name): "" if text is None else str(text) for name, text in (value or {}).items()}


def _parse(project: ComposeProject) -> dict[str, Any]:
    where = f"project {project.name}"
    try:
        document = _yaml().load(project.text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ComposeInvalid(f"its Compose file is not YAML: {error.problem}{line}", where=where) from error
    if not isinstance(document, dict):
        raise ComposeInvalid("its Compose file is not a mapping", where=where)
    return document


def _yaml() -> YAML:
    # Each value stays as it is written: Compose reads `0440` as an octal number, YAML 1.2 as 440.
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml
