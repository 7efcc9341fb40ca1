"""Values for files in other languages: each function gives a literal with its quotes.

A Terraform token inside a value stays as it is; what Terraform puts there (a URL, a region) needs no quoting.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from labctl.cloudinit.request import TOKEN
from labctl.model.errors import UserError

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def ruby(value: str) -> str:
    r"""A Ruby string in single quotes, where only `\` and `'` are special.

    Raises:
        UserError: The value holds a line break or another control character.
    """
    return "'" + _escape(value, lambda text: re.sub(r"([\\'])", r"\\\1", text)) + "'"


def hcl(value: str) -> str:
    r"""A string of HashiCorp's configuration language in double quotes.

    Raises:
        UserError: The value holds a line break or another control character.
    """
    return '"' + _escape(value, lambda text: re.sub(r'([\\"])', r"\\\1", text)) + '"'


def environment(value: str) -> str:
    r"""A value of a systemd environment file, which a shell can read as well: double quotes; `\`, `"`, `$` and backquote escaped.

    Source: systemd.exec(5), EnvironmentFile=.

    Raises:
        UserError: The value holds a line break or another control character.
    """
    return '"' + _escape(value, lambda text: re.sub(r'([\\"$`])', r"\\\1", text)) + '"'


def _escape(value: str, escape: Callable[[str], str]) -> str:
    if found := _CONTROL.search(value):
        raise UserError(f"{value!r} holds the control character {found[0]!r}", hint="A setting is one line of text.")
    escaped, end = "", 0
    for token in TOKEN.finditer(value):
        escaped += escape(value[end : token.start()]) + token[0]
        end = token.end()
    return escaped + escape(value[end:])
