"""Text that Terraform must take as it is.

A string in a resource argument is a template to Terraform: `${` begins an interpolation and `%{` a directive. cloud-init
documents, shell scripts and Docker's format strings are full of them. CDKTF's own placeholders, `${TfToken[…]}`, are the one
thing that must stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

TOKEN = re.compile(r"(\$\{TfToken\[[^\]]*\]\})")
_DOLLARS = re.compile(r"\$+\Z")


class Expression(str):
    """Text that is a Terraform expression and must be evaluated, so it is not escaped: `Expression("null")` is `${null}`."""

    __slots__ = ()

    def __new__(cls, expression: str) -> Self:
        """Wraps the bare expression for the template that it will stand in."""
        return super().__new__(cls, f"${{{expression}}}")


def literal(text: str) -> str:
    """`text` as a Terraform template that evaluates to `text`; CDKTF's tokens in it stay references.

    The rule is HCL's: `$${` stands for `${` and `%%{` for `%{` (HCL native syntax specification, "Template Literals"). Dollars
    right before a token are given as an interpolated string, because `$` and `${…}` side by side would read as the escape.
    """
    parts = TOKEN.split(text)
    for index in range(0, len(parts), 2):
        escaped = parts[index].replace("${", "$${").replace("%{", "%%{")
        if index + 1 < len(parts):
            escaped = _DOLLARS.sub(lambda run: f'${{"{run.group()}"}}', escaped)
        parts[index] = escaped
    return "".join(parts)


def quoted(text: str) -> str:
    """`text` as a string in a Terraform expression."""
    return json.dumps(literal(text), ensure_ascii=False)


def arguments(value: Any) -> Any:
    """`value` with every string in it made literal, except an `Expression`, and every absent (`None`) entry left out."""
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, Mapping):
        return {key: arguments(item) for key, item in value.items() if item is not None}
    if isinstance(value, Sequence):
        return [arguments(item) for item in value if item is not None]
    return value
