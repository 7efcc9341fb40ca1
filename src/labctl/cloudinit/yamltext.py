"""Data as YAML text that people can read, and that reads back as the same data by YAML 1.1 and 1.2."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

# In YAML 1.1, which cloud-init reads, `on`, `no`, `0644` or `12:30` without quotes are no text. What is surely text stays plain.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@+-]*( [A-Za-z0-9_./@+=-]+)*")
_NOT_TEXT = re.compile(r"y|n|yes|no|on|off|true|false|null", re.IGNORECASE)
_LITERAL = re.compile(r"[\x20-\x7e\u00a1-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\n\t]*")


def yaml_text(tree: Mapping[str, Any]) -> str:
    """The text of `tree`, in block style, keys in their order; a list within a list on one line."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 1_000_000  # a folded line could cut a Terraform token
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_styled(tree), stream)
    return stream.getvalue()


def _styled(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _styled(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_arguments(value) if isinstance(value, list) else _styled(value) for value in node]
    return _scalar(node) if isinstance(node, str) else node


def _arguments(command: list[str]) -> CommentedSeq:
    """A program and its arguments, on one line."""
    line = CommentedSeq(_scalar(word) for word in command)
    line.fa.set_flow_style()
    return line


def _scalar(text: str) -> str:
    styled: str = text
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return styled
    # A block that begins with a blank, or has blanks at the end of a line, is hard to read back for man and parser alike.
    if "\n" in text and _LITERAL.fullmatch(text) and text[0] not in " \t\n" and not re.search(r"[ \t](\n|\Z)", text):
        styled = LiteralScalarString(text)
    else:
        styled = DoubleQuotedScalarString(text)
    return styled
