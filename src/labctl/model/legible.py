"""Text as XML, Markdown and HTML can hold it: what a name or a message says is shown, never rendered. Pure."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML 1.0 has no way to write, section 2.2; named by what it is, a set that compiles ten times as fast as what it is not."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~$&!@])")
"""`@` too: in GitLab a name behind it is told by mail."""


def legible(text: str) -> str:
    """`text` without characters that XML cannot hold; a mark stands where one was."""
    return _FORBIDDEN.sub("\ufffd", text)


def plain(text: str) -> str:
    """`text` in one line in which Markdown finds nothing to render."""
    return _MARKDOWN.sub(r"\\\1", " ".join(legible(text).split()))
