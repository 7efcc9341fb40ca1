"""What Terraform complains about: its diagnostics, from JSON events and from text, as frozen values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_BOX = re.compile(r"^[╷│╵] ?", re.MULTILINE)
_HEAD = re.compile(r"^(Error|Warning): ", re.MULTILINE)
_WITH = re.compile(r"^\s+with (?P<address>\S+),$", re.MULTILINE)
_OWN = re.compile(r"(?:^|\.)labctl_\w+\.")
_ON = re.compile(r"^\s+on (?P<file>\S+) line (?P<line>\d+)(?:, in .*)?:\n(?:\s+\d+:.*\n)*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One complaint of Terraform, OpenTofu or a provider.

    Attributes:
        severity: "error" or "warning".
        summary: Its first line.
        detail: The rest of its text, may be empty or long.
        address: The resource's address, "" when it is about none.
        file: The configuration file it points at, "" when none.
        line: The line in that file, 0 when none.
    """

    severity: str
    summary: str
    detail: str = ""
    address: str = ""
    file: str = ""
    line: int = 0

    @property
    def text(self) -> str:
        """Summary and detail in one string, which the remedies are matched against."""
        return f"{self.summary}\n{self.detail}" if self.detail else self.summary

    @property
    def is_own(self) -> bool:
        """Whether labctl's own provider may have said it, of one of its resources: then it says itself what to do."""
        return _OWN.search(self.address) is not None

    @property
    def is_error(self) -> bool:
        """Whether it is an error, not a warning."""
        return self.severity == "error"


def diagnostic_from_json(shape: Mapping[str, Any]) -> Diagnostic:
    """Reads the `diagnostic` object of a JSON event.

    Source: Terraform, "Machine-Readable UI", message type `diagnostic`.
    """
    span = shape.get("range")
    span = span if isinstance(span, Mapping) else {}
    start = span.get("start")
    line = start.get("line") if isinstance(start, Mapping) else 0
    return Diagnostic(
        severity=str(shape.get("severity") or "error"),
        summary=str(shape.get("summary") or "").strip(),
        detail=str(shape.get("detail") or "").strip(),
        address=str(shape.get("address") or ""),
        file=str(span.get("filename") or ""),
        line=line if isinstance(line, int) else 0,
    )


def plain(text: str) -> str:
    """The text without colours and without the box that Terraform draws around a diagnostic."""
    return _BOX.sub("", _ANSI.sub("", text))


def diagnostics_from_text(text: str) -> tuple[Diagnostic, ...]:
    """Reads the diagnostics that commands without JSON events (show, output, state …) print on stderr."""
    clean = plain(text)
    heads = list(_HEAD.finditer(clean))
    ends = [*(head.start() for head in heads), len(clean)]
    return tuple(_one_from_text(head, clean[head.end() : end]) for head, end in zip(heads, ends[1:], strict=True))


def _one_from_text(head: re.Match[str], body: str) -> Diagnostic:
    summary, _, rest = body.partition("\n")
    address, position = _WITH.search(rest), _ON.search(rest)
    detail = _WITH.sub("", _ON.sub("", rest))
    return Diagnostic(
        severity=head.group(1).lower(),
        summary=summary.strip(),
        detail=detail.strip(),
        address=address.group("address") if address else "",
        file=position.group("file") if position else "",
        line=int(position.group("line")) if position else 0,
    )


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds a state lock.

    Attributes:
        id: What `force_unlock` needs.
        who: user@host.
        operation: What it does, in words: "apply", "plan" …
        created: Since when, in UTC to the second, as text.
        path: The state's path or key.
    """

    id: str
    who: str = ""
    operation: str = ""
    created: str = ""
    path: str = ""


_HTTP_LOCKED = re.compile(r"HTTP remote state already locked: ID=(\S+)")
_LOCK_FIELD = re.compile(r"^\s*(ID|Path|Operation|Who|Created):[ \t]*(.*?)[ \t]*$", re.MULTILINE)


def lock_info(text: str) -> LockInfo | None:
    """Reads the `Lock Info:` block of "Error acquiring the state lock"; None when there is none with an id.

    The block is the same for the local and the S3 backend, and in Terraform and OpenTofu (`statemgr.LockInfo.String`). The `http`
    backend prints the block of the lock that it did not get, and of the one that is there only its id (`httpClient.Lock`).
    """
    other = _HTTP_LOCKED.search(plain(text))
    if other:
        return LockInfo(id=other[1])
    _, found, block = plain(text).partition("Lock Info:")
    if not found:
        return None
    fields = {name: value for name, value in _LOCK_FIELD.findall(block) if value}
    if "ID" not in fields:
        return None
    created = fields.get("Created", "")
    return LockInfo(
        id=fields["ID"],
        who=fields.get("Who", ""),
        operation=fields.get("Operation", "").removeprefix("OperationType").lower(),
        created=re.sub(r"(\d\d:\d\d:\d\d)\.\d+ \+0000 UTC", r"\1 UTC", created),
        path=fields.get("Path", ""),
    )
