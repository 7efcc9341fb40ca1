"""Why a guest's login with its one-time identity failed, from what OpenBao's agent said (2.7.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_BEGIN = "starting auth handler"
_USED = re.compile(r"wrapping token is not valid or does not exist")
_FOREIGN = re.compile(r"unable to validate wrapping token creation path")
_SEALED = re.compile(r"(?i)vault is sealed|code: 503")
_UNREACHABLE = re.compile(
    r"(?i)connection refused|no such host|i/o timeout|no route to host|network is unreachable|deadline exceeded"
)
_TLS = re.compile(r"(?i)x509: |tls: ")
_REFUSED = re.compile(r"(?i)unauthorized by CIDR restrictions|invalid (role or )?secret id|code: 403")
_EMPTY = re.compile(r"secret ID file empty|no known secret ID")


class Failure(StrEnum):
    """Why it failed."""

    TAMPERED = "tampered"
    EXPIRED = "expired"
    SEALED = "sealed"
    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"
    REFUSED = "refused"
    EMPTY = "empty"
    UNKNOWN = "unknown"

    @property
    def passing(self) -> bool:
        """Whether a new identity may do better."""
        return self in (Failure.EXPIRED, Failure.SEALED, Failure.UNREACHABLE, Failure.EMPTY)


@dataclass(frozen=True, slots=True)
class FailedLogin:
    """A login that failed.

    Attributes:
        failure: Why.
        lines: The last lines of the agent that say something.
    """

    failure: Failure
    lines: tuple[str, ...]


def judge_login(log: str, *, age_s: float, ttl_s: float) -> FailedLogin:
    """Why a login failed.

    Args:
        log: What the agent said; earlier logins before it do not count.
        age_s: How old the wrapping token was when it had failed.
        ttl_s: How old it may get.
    """
    said = log.rpartition(_BEGIN)[2]
    lines = tuple(line.strip(" |") for line in said.splitlines() if re.search(r"(?i)error|\*|security", line))
    return FailedLogin(_failure(said, age_s >= ttl_s), tuple(dict.fromkeys(lines))[-6:])


def _failure(said: str, expired: bool) -> Failure:
    if _FOREIGN.search(said):
        # Somebody unwrapped it and wrapped something again: the path under which it was wrapped gives that away.
        return Failure.TAMPERED
    if _USED.search(said):
        # The Vault says the same of a token that was used and of one that has expired. Within its life it was used.
        return Failure.EXPIRED if expired else Failure.TAMPERED
    known = (
        (_SEALED, Failure.SEALED),
        (_UNREACHABLE, Failure.UNREACHABLE),
        (_TLS, Failure.UNTRUSTED),
        (_REFUSED, Failure.REFUSED),
        (_EMPTY, Failure.EMPTY),
    )
    return next((failure for pattern, failure in known if pattern.search(said)), Failure.UNKNOWN)
