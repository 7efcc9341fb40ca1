"""What can go wrong with a Docker engine, said once: what it means, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

from labctl.model.compose import ComposeDifference
from labctl.model.errors import AdapterError, UserError

_LINES = 12


class ShellError(AdapterError):
    """A script failed.

    Args:
        message: What it said.
        code: Its exit code; -1 where it did not end in time.
        hint: What to do.
        where: The engine.
    """

    def __init__(self, message: str, *, code: int, hint: str = "", where: str = "") -> None:
        super().__init__(message, hint=hint, where=where)
        self.code = code

    @classmethod
    def of(cls, code: int, said: str, where: str) -> AdapterError | UserError:
        """The error that fits what a script said."""
        text = _tail(said)
        for pattern, remedy in _DOWN:
            if re.search(pattern, text, re.IGNORECASE):
                found = EngineUnreachable(_first(text), where=where, hint=remedy)
                found.passing = (pattern, remedy) == _DOWN[0]
                return found
        for pattern, remedy in _KNOWN:
            if re.search(pattern, text, re.IGNORECASE):
                return cls(text, code=code, where=where, hint=remedy)
        return cls(text or f"ended with exit code {code}", code=code, where=where)


class EngineUnreachable(AdapterError):
    """There is no way to the engine, or it does not answer.

    Attributes:
        passing: Whether that may pass by itself: the guest, or its engine, may be starting.
    """

    passing: bool = False

    @classmethod
    def of(cls, said: str, where: str) -> Self:
        """The error that fits what ssh said."""
        text = _tail(said)
        for pattern, message, remedy in _SSH:
            if re.search(pattern, text, re.IGNORECASE):
                found = cls(message, where=where, hint=remedy)
                found.passing = "connection refused" in text.lower()
                return found
        return cls(
            f"cannot be reached: {_first(text) or 'the connection was lost'}",
            where=where,
            hint="Is guest docker up? `labctl status` shows it, `labctl up --layer platform` brings it up.",
        )


class Interrupted(AdapterError):
    """It was told to stop."""


class ComposeInvalid(UserError):
    """The Compose file is not valid."""


class NotConverged(AdapterError):
    """The containers are not as wanted, although Compose has done its work.

    Args:
        project: The project.
        differences: What is not as wanted.
        log: The last lines of the container that is worst off.
        said: What Compose said.
        check: What the last check of that container's health said.
    """

    def __init__(
        self, project: str, differences: Sequence[ComposeDifference], log: str = "", said: str = "", check: str = ""
    ) -> None:
        worst = "; ".join(str(one) for one in differences) or _first(said) or "it did not come up"
        parts = [said] if said else []
        if check:
            parts.append(_quoted("Its health check said:", _tail(check)))
        if log:
            parts.append(_quoted("Its last lines:", log))
        super().__init__(worst, where=f"project {project}", hint="\n".join(parts))
        self.differences = tuple(differences)
        self.log = log


class ReleaseFailed(AdapterError):
    """A release did not come up, and the last good file was put in place again.

    Attributes:
        back: Whether that worked.
    """

    def __init__(self, message: str, *, hint: str, where: str, back: bool = False) -> None:
        super().__init__(message, hint=hint, where=where)
        self.back = back


_DOWN = (
    (
        r"cannot connect to the docker daemon|is the docker daemon running|error during connect",
        "`systemctl status docker` on that machine says why; `systemctl start docker` starts it.",
    ),
    (r"permission denied while trying to connect to the docker", "Its user must be in group docker."),
    (r"docker: not found|docker: command not found", "Docker is not installed there: has the guest's cloud-init ended?"),
    (
        r"'compose' is not a docker command|unknown shorthand flag: 'p'",
        "The Compose plugin is missing there: package docker-compose-plugin, or Debian's docker-compose.",
    ),
)
_GONE = (
    r"pull access denied|manifest unknown|name unknown|manifest for .* not found|repository does not exist|not found: manifest|"
    r"failed to resolve reference .*: not found"
)
_KNOWN = (
    (
        r"port is already allocated|address already in use",
        "Something else has that port: `docker ps` there shows containers, `ss -ltnp` programs. Set another port in lab.yaml.",
    ),
    (
        _GONE,
        "That image is not in its registry. Check `image` in lab.yaml; on a sandbox, `labctl sandbox images` builds its images.",
    ),
    (
        r"no such host|i/o timeout|connection refused|TLS handshake timeout|http: server gave HTTP response",
        "The registry cannot be reached from guest docker. Check its network and DNS, or set another image.",
    ),
    (r"no space left on device", "The disk is full: `docker system df` there shows what fills it."),
    (
        r"unexpected digest|digest .* does not match|failed to verify|verification failed for digest",
        "What came is not what is pinned. Pin the digest you trust.",
    ),
    (
        r"could not select device driver|nvidia",
        "There is no GPU for containers there: set `gpu: false`, or give guest docker one.",
    ),
)
_SSH = (
    (
        r"permission denied",
        "refuses labctl's SSH key",
        "Guests know the key from their first boot. A guest made by another lab folder has another one.",
    ),
    (
        r"host key verification failed|remote host identification has changed|no .*host key is known",
        "its SSH host key is not the one that is known",
        "`labctl up --layer platform` takes it down from the guest's own agent.",
    ),
    (
        r"no route to host|connection refused|timed out|could not resolve",
        "does not answer",
        "Is guest docker up? `labctl status` shows it, `labctl up --layer platform` brings it up.",
    ),
)


def is_gone(said: str) -> bool:
    """Whether a registry answered that it does not have an image."""
    return re.search(_GONE, said, re.IGNORECASE) is not None


def _quoted(title: str, text: str) -> str:
    return "\n".join((title, *(f"  {line}" for line in text.splitlines())))


def _tail(said: str) -> str:
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    return "\n".join(lines[-_LINES:])


def _first(text: str) -> str:
    return text.splitlines()[-1].strip() if text else ""
