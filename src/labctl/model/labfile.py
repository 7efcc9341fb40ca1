"""Reads `lab.yaml`, and other files that people write; an error says file, line, what was found and what is allowed."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from labctl.model.errors import UserError, nearest
from labctl.model.lab import Lab

Loc = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_ALLOWED = {
    "int_type": "a whole number without quotes or unit",
    "int_parsing": "a whole number without quotes or unit",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "date_from_datetime_parsing": "a day as 2026-12-31",
    "date_from_datetime_inexact": "a day as 2026-12-31",
    "missing": "this key, which is required",
}


def parse_lab(text: str, filename: str = "lab.yaml") -> Lab:
    """The lab that `text` describes.

    Raises:
        UserError: The text is empty, not YAML, or does not describe a lab; the message names the file, the line, what was
            found and what is allowed.
    """
    document = load_yaml(text, filename)
    if document is None:
        raise UserError(
            "is empty",
            where=filename,
            hint="Start from lab.yaml or examples/proxmox.yaml of the repository.",
        )
    return validated(Lab, document, filename)


def load_yaml(text: str, filename: str) -> Any:
    """The document in `text`, with the lines that its parts are on; None where it is empty.

    Raises:
        UserError: It is not YAML.
    """
    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(
            f"{error.problem or 'not YAML'}",
            where=f"{filename}:{line}",
            hint="Check indentation, colons and quotes there.",
        ) from error
    except YAMLError as error:
        raise UserError(f"is not YAML: {error}", where=filename) from error


def validated(model: type[M], document: Any, filename: str) -> M:
    """What a document of `load_yaml` describes.

    Raises:
        UserError: It does not describe one; the message names the file, the line, what was found and what is allowed.
    """
    if not isinstance(document, Mapping):
        raise UserError(
            f"found {_kind(document)} at the top, allowed: the keys {', '.join(model.model_fields)}",
            where=f"{filename}:1",
        )
    try:
        return model.model_validate(_plain(document))
    except ValidationError as error:
        raise _as_user_error(error, document, filename, model) from error


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    return next((kind(node) for kind in (int, float, str) if isinstance(node, kind)), node)


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)


def _as_user_error(error: ValidationError, document: Any, filename: str, model: type[BaseModel]) -> UserError:
    found = error.errors(include_url=False)
    sentences = [_sentence(item, document, filename, model) for item in found]
    where, message, hint = sentences[0]
    more = "".join(f"\n{w}: {m}" + (f" {h}" if h else "") for w, m, h in sentences[1:])
    return UserError(message + more, where=where, hint=hint)


def _sentence(item: Any, document: Any, filename: str, model: type[BaseModel]) -> tuple[str, str, str]:
    loc: Loc = tuple(item["loc"])
    path = ".".join(str(part) for part in loc)
    where = f"{filename}:{_line(document, loc)}"
    kind = item["type"]
    if kind == "extra_forbidden":
        return where, f"unknown key {path!r}", nearest(str(loc[-1]), _fields_at(model, loc[:-1]))
    if kind == "missing":
        return where, f"{path or 'the file'} is missing", ""
    if kind == "literal_error":
        known = re.findall(r"'([^']+)'", item["ctx"]["expected"])
        return where, f"{path}: found {_kind(item['input'])}, allowed: {', '.join(known)}", nearest(str(item["input"]), known)
    message = item["msg"].removeprefix("Value error, ")
    if not loc or kind == "value_error":
        return where, f"{path}: {message}" if path else message, ""
    allowed = _ALLOWED.get(kind) or message[0].lower() + message[1:]
    return where, f"{path}: found {_kind(item['input'])}, allowed: {allowed}", ""


def _line(document: Any, loc: Loc) -> int:
    """The line of the deepest part of `loc` that is in the document, from 1."""
    line = 1
    node: Any = document
    for part in loc:
        try:
            position = node.lc.item(part) if isinstance(part, int) else node.lc.key(part)
            line, node = position[0] + 1, node[part]
        except (KeyError, IndexError, AttributeError, TypeError):
            break
    return line


def _fields_at(top: type[BaseModel], loc: Loc) -> list[str]:
    model: Any = top
    for part in loc:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = _model_of(field.annotation)
    return list(getattr(model, "model_fields", {}))


def _model_of(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        return next((a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)), None)
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0]
    return annotation
