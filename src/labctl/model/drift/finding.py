"""The words of a drift check: what was found, where, how bad it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MASK = "(sensitive)"


class Verdict(StrEnum):
    """How a stack, or a part of the world, stands against what is described."""

    CLEAN = "clean"
    DRIFTED = "drifted"
    """Something changed outside of labctl."""
    PENDING = "pending"
    """The code wants something that was never applied."""
    NOT_DEPLOYED = "not deployed"
    LOCKED = "locked"
    """A run holds the state; nothing is known about it now."""
    ERROR = "error"
    """It could not be looked at; nothing is known about it."""


class Severity(StrEnum):
    """How much it matters, by the rules of docs/drift.md."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Kind(StrEnum):
    """What sort of thing was found."""

    CHANGED = "changed"
    MISSING = "missing"
    """Declared and made once, but no longer there: deleted outside."""
    UNMANAGED = "unmanaged"
    """There, but nobody declared it."""
    MOVED = "moved"
    """On another node than declared."""
    EXPIRING = "expiring"
    PENDING = "pending"
    """Not drift: what the code wants and nobody has applied."""
    HIDDEN = "hidden"
    """The rights of the token do not let it be seen: it may be there or not."""


@dataclass(frozen=True, slots=True)
class Change:
    """One attribute that is not what it should be.

    Attributes:
        path: As `memory.dedicated`.
        before: What it should be, or was; `MASK` where it is sensitive.
        after: What it is.
    """

    path: str
    before: Any = None
    after: Any = None

    def as_dict(self) -> dict[str, Any]:
        """The entry in the JSON report."""
        return {"path": self.path, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as described.

    Attributes:
        area: Where it was seen: `terraform`, `proxmox`, `vault`, `store`, `docker` or `guests`.
        kind: What sort of thing it is.
        id: A Terraform address within its stack, or what the area calls it, as `qemu/105`, `policy/gitlab`, `bucket/mlflow`.
        text: One sentence, with names and values, no secret.
        severity: How much it matters.
        stack: The stack that it belongs to; "" for none. `layer` likewise.
        guest: The guest that it is or is on; "" for none. `node` likewise.
        changes: The attributes that differ.
    """

    area: str
    kind: Kind
    id: str
    text: str
    severity: Severity = Severity.MEDIUM
    stack: str = ""
    layer: str = ""
    guest: str = ""
    node: str = ""
    changes: tuple[Change, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The same from night to night, as long as the same attributes of the same thing are off; 16 hex digits."""
        parts = (self.area, self.stack, self.id, str(self.kind), *sorted(change.path for change in self.changes))
        return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class StackDrift:
    """One stack against the world.

    Attributes:
        findings: What changed outside, and what is pending, told apart by their kind.
        problem: Why it could not be looked at; "" where it could. `hint` is what to do then.
        seconds: How long its plan took.
    """

    name: str
    layer: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    problem: str = ""
    hint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AreaDrift:
    """A part of the world that Terraform does not look at: `proxmox`, `vault`, `store`, `docker`, `guests`.

    Attributes:
        findings: What is not as described.
        problems: What could not be looked at, a sentence each with its remedy; a check with a problem is never clean.
        notes: What is worth a line but is nobody's fault: foreign guests outside of the lab's pool.
        looked: How many things were compared.
    """

    name: str
    findings: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    looked: int = 0
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """`error` where something could not be looked at, else by what was found."""
        if self.problems:
            return Verdict.ERROR
        return Verdict.DRIFTED if self.findings else Verdict.CLEAN
