"""Compose projects as labctl sees them: what is wanted, what is there, and how the two differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from labctl.model.secret import Secret

PROJECT_NAME = r"^[a-z0-9][a-z0-9_-]*$"
"""Compose's own rule for project names."""

ONE_SHOT_LABEL = "labctl.one-shot"
"""A service with this label, `"true"`, is done when its container has ended with exit code 0."""

CONTENT_LABEL = "labctl.content"
"""Carries the keyed hash of what Compose's own hash of a service does not see: the contents of its secrets and configs."""

CONTENT_KEY = "labctl/content"
"""The secret with the key of those hashes, in field `key`."""

State = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead", "completed", "missing"]
"""A container's state as the engine names it; `completed` is a one-shot that ended well, `missing` one that is not there."""

Health = Literal["none", "starting", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """How an image registry lets somebody in.

    Attributes:
        host: The registry as image references name it, `host:port`.
        username: Its user.
        token: His password or token.
    """

    host: str
    username: Secret
    token: Secret


@dataclass(frozen=True, slots=True)
class ComposeProject:
    """A Compose project that is wanted.

    Attributes:
        name: Its name.
        text: The Compose file. Secrets stand in it as `${VARIABLE}` only.
        secrets: The values of those variables.
        content_key: Key of the hashes of contents, so that nobody can guess a secret by trying.
        wait_s: How long its containers may take to be running and healthy.
        redeploy: Recreates its containers when it changes.
        logins: The registries that its images are fetched from with credentials.
    """

    name: str
    text: str
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    content_key: Secret | None = None
    wait_s: float = 120.0
    redeploy: str = ""
    logins: Sequence[RegistryLogin] = ()


@dataclass(frozen=True, slots=True)
class ComposeService:
    """One service of a project: as Compose would make it, or as it is. Where its containers differ, a text lists all there is.

    Attributes:
        image: The image's reference.
        image_id: `sha256:…` of the image's configuration; "" where the engine does not have the image yet.
        digest: `sha256:…` of the manifest in the registry that the image came from; "" for one that was never in a registry.
        state: The state of its containers; the worst where there are several.
        health: Likewise. `none` without a health check.
        config_hash: Compose's hash of its configuration.
        content_hash: The value of `CONTENT_LABEL`, "" without.
        count: Containers.
        networks: Names of the networks that its containers are on, sorted.
    """

    image: str
    image_id: str
    digest: str
    state: State
    health: Health
    config_hash: str
    content_hash: str = ""
    count: int = 1
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ComposeState:
    """All services of a project.

    Attributes:
        services: By name. In what is there, also those that the file no longer has.
        networks: Names of the networks that the project has, as the engine knows them, sorted.
        volumes: Names of its named volumes, sorted.
    """

    services: Mapping[str, ComposeService]
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ComposeDifference:
    """One respect in which what is there is not what is wanted.

    Attributes:
        service: The service; "" where it is the project's.
        what: `image`, `config`, `content`, `state`, `health`, `count`, `networks`, `missing` or `orphan`.
        wanted: As text for people.
        found: Likewise.
    """

    service: str
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        where = f"{self.service}: " if self.service else ""
        return f"{where}{self.what} is {self.found or 'nothing'}, wanted {self.wanted or 'nothing'}"


_COMPARED: tuple[tuple[str, str], ...] = (
    ("image", "image"),
    ("image id", "image_id"),
    ("config", "config_hash"),
    ("content", "content_hash"),
    ("state", "state"),
    ("health", "health"),
    ("count", "count"),
)


def differences(wanted: ComposeState, found: ComposeState) -> tuple[ComposeDifference, ...]:
    """Where `found` is not `wanted`, by service. Empty: nothing to do.

    An image that the engine does not have yet has no id that could be compared; digests come with the image's id.
    """
    answer: list[ComposeDifference] = []
    for name in sorted({*wanted.services, *found.services}):
        want, have = wanted.services.get(name), found.services.get(name)
        if want is None:
            answer.append(ComposeDifference(name, "orphan", "", "a container"))
            continue
        if have is None or have.state == "missing":
            answer.append(ComposeDifference(name, "missing", "a container", ""))
            continue
        for what, attribute in _COMPARED:
            ours, theirs = getattr(want, attribute), getattr(have, attribute)
            if ours != theirs and not (attribute == "image_id" and not ours):
                answer.append(ComposeDifference(name, what, _short(ours), _short(theirs)))
        if want.networks != have.networks:
            answer.append(ComposeDifference(name, "networks", ", ".join(want.networks), ", ".join(have.networks)))
    lost, left = set(wanted.networks) - set(found.networks), set(found.networks) - set(wanted.networks)
    answer += [ComposeDifference("", "networks", network, "") for network in sorted(lost)]
    answer += [ComposeDifference("", "networks", "", network) for network in sorted(left)]
    return tuple(answer)


def _short(value: object) -> str:
    """Hashes are long; their beginning tells them apart."""
    parts = str(value).split(", ")
    return ", ".join(part[:19] if part.startswith("sha256:") else part[:12] if len(part) == 64 else part for part in parts)
