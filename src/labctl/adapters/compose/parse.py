"""What the engine answers, as values. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.adapters.compose.errors import ComposeInvalid
from labctl.model.compose import CONTENT_LABEL, ONE_SHOT_LABEL, ComposeService, ComposeState, Health, State
from labctl.model.drift.docker import FoundContainer, Inventory
from labctl.model.rolling import Ties

_PREFIX = "com.docker.compose"
_WORST: tuple[State, ...] = (
    "dead", "restarting", "exited", "removing", "paused", "created", "running", "completed",
)  # fmt: skip
_SICKEST: tuple[Health, ...] = ("unhealthy", "starting", "healthy", "none")


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a project.

    Attributes:
        id: Its id.
        project: Its project.
        service: Its service.
        image: The reference that it was made from.
        image_id: The image that it runs.
        state: Its state; `completed` for a one-shot that ended well.
        health: Its health.
        config_hash: Compose's hash of the configuration that it was made with.
        content_hash: labctl's, of what Compose's does not see.
        started: When it was started last, as the engine writes it.
        restarts: How often the engine restarted it.
        networks: The networks that it is on.
        ports: The ports of the host that lead to it, as `8000/tcp`.
        check: What the check of its health said last, where it failed.
    """

    id: str
    project: str
    service: str
    image: str
    image_id: str
    state: State
    health: Health
    config_hash: str
    content_hash: str
    started: str
    restarts: int
    networks: tuple[str, ...]
    ports: tuple[str, ...] = ()
    check: str = ""


def containers(text: str) -> tuple[Container, ...]:
    """The containers of a `docker inspect`, without those of `docker compose run`."""
    return tuple(one for one in map(_container, _lines(text)) if one is not None)


def _container(entry: Mapping[str, Any]) -> Container | None:
    labels = entry["labels"] or {}
    if labels.get(f"{_PREFIX}.oneoff", "False") == "True" or f"{_PREFIX}.service" not in labels:
        return None
    state = entry["state"]["Status"]
    if state == "exited" and entry["state"]["ExitCode"] == 0 and labels.get(ONE_SHOT_LABEL) == "true":
        state = "completed"
    return Container(
        id=entry["id"],
        project=labels[f"{_PREFIX}.project"],
        service=labels[f"{_PREFIX}.service"],
        image=entry["image"],
        image_id=entry["image_id"],
        state=state,
        # What has done its work keeps the health that it had last.
        health="none" if state == "completed" else (entry["state"].get("Health") or {}).get("Status") or "none",
        config_hash=labels.get(f"{_PREFIX}.config-hash", ""),
        content_hash=labels.get(CONTENT_LABEL, ""),
        started=entry["state"]["StartedAt"],
        restarts=int(entry["restarts"]),
        networks=tuple(sorted(entry["networks"] or {})),
        ports=tuple(sorted(_held(entry.get("ports") or {}))),
        check=_check(entry["state"].get("Health") or {}),
    )


def _held(bindings: Mapping[str, Any]) -> Iterator[str]:
    for inside, hosts in bindings.items():
        protocol = inside.partition("/")[2] or "tcp"
        yield from (f"{one['HostPort']}/{protocol}" for one in hosts or () if one.get("HostPort"))


def _check(health: Mapping[str, Any]) -> str:
    last = (health.get("Log") or [{}])[-1]
    return str(last.get("Output") or "").strip() if last.get("ExitCode") else ""


def inventory(parts: Mapping[str, str]) -> Inventory:
    """Everything that there is, whosever it is."""
    networks, volumes = (
        {name: project for project, names in _names(parts.get(kind, "")).items() for name in names}
        for kind in ("networks", "volumes")
    )
    return Inventory(tuple(map(_any_container, _lines(parts.get("containers", "")))), networks, volumes)


def _any_container(entry: Mapping[str, Any]) -> FoundContainer:
    labels = entry["labels"] or {}
    return FoundContainer(
        name=str(entry["name"]).removeprefix("/"),
        image=str(entry["image"]),
        project=labels.get(f"{_PREFIX}.project", ""),
        state=str(entry["state"]),
        ports=tuple(sorted({*_open(entry.get("ports") or {}), *_open(entry.get("chosen") or {})})),
        host_network=entry.get("mode") == "host",
        privileged=bool(entry.get("privileged")),
        binds=tuple(sorted(str(one).partition(":")[0] for one in entry.get("binds") or ())),
    )


def _open(bindings: Mapping[str, Any]) -> Iterator[str]:
    """The ports of the host that lead in from beyond its loopback."""
    for inside, hosts in bindings.items():
        for one in hosts or ():
            if one.get("HostPort") and not str(one.get("HostIp", "")).startswith(("127.", "::1")):
                yield f"{one['HostPort']}/{inside.partition('/')[2] or 'tcp'}"


def found_states(parts: Mapping[str, str]) -> dict[str, ComposeState]:
    """What there is, by project."""
    digests = {one["id"]: _digest(one) for one in _lines(parts.get("images", ""))}
    grouped: dict[str, dict[str, list[Container]]] = {}
    for one in containers(parts.get("containers", "")):
        grouped.setdefault(one.project, {}).setdefault(one.service, []).append(one)
    networks, volumes = _names(parts.get("networks", "")), _names(parts.get("volumes", ""))
    return {
        project: ComposeState(
            {name: _service(same, digests) for name, same in sorted(grouped.get(project, {}).items())},
            tuple(sorted(networks.get(project, ()))),
            tuple(sorted(volumes.get(project, ()))),
        )
        for project in sorted({*grouped, *networks, *volumes})
    }


def _service(same: Sequence[Container], digests: Mapping[str, str]) -> ComposeService:
    # What several have in different ways is told as all of it: so it is never taken for what is wanted.
    worst = min(same, key=lambda one: (_WORST.index(one.state), _SICKEST.index(one.health)))
    return ComposeService(
        image=_all(one.image for one in same),
        image_id=_all(one.image_id for one in same),
        digest=_all(digests.get(one.image_id, "") for one in same),
        state=worst.state,
        health=min((one.health for one in same), key=_SICKEST.index),
        config_hash=_all(one.config_hash for one in same),
        content_hash=_all(one.content_hash for one in same),
        count=len(same),
        networks=_shared(same),
    )


def _all(values: Iterable[str]) -> str:
    return ", ".join(value or "none" for value in found) if len(found := sorted(set(values))) > 1 else found[0]


def _shared(same: Sequence[Container]) -> tuple[str, ...]:
    on = Counter(network for one in same for network in one.networks)
    names = (name if count == len(same) else f"{name} ({count} of {len(same)})" for name, count in on.items())
    return tuple(sorted(names))


def wanted_state(parts: Mapping[str, str]) -> ComposeState:
    """What Compose would make of a file.

    Raises:
        ComposeInvalid: A service has no image: labctl builds images apart from projects.
    """
    config = json.loads(parts["config"])
    for name, entry in config["services"].items():
        if not entry.get("image"):
            hint = "Build it by a `labctl_image`, and name what that pushes as `image`."
            raise ComposeInvalid(f"service {name} names no image", where=f"project {config.get('name', '')}", hint=hint)
    hashes = dict(line.split()[:2] for line in parts["hashes"].splitlines() if line.strip())
    images = _images(parts.get("images", ""))
    networks = {key: str((value or {}).get("name") or key) for key, value in (config.get("networks") or {}).items()}
    external = {networks[key] for key, value in (config.get("networks") or {}).items() if (value or {}).get("external")}
    volumes = [str((value or {}).get("name") or key) for key, value in (config.get("volumes") or {}).items()]
    every = {
        name: _wanted_service(entry, hashes.get(name, ""), images, networks) for name, entry in sorted(config["services"].items())
    }
    # Compose makes the networks also of a service that is scaled to nothing. One may also be on the engine's own, `host` or
    # `bridge`: those are no project's.
    used = {network for service in every.values() for network in service.networks}
    services = {name: service for name, service in every.items() if service.count}
    return ComposeState(services, tuple(sorted(used & set(networks.values()) - external)), tuple(sorted(volumes)))


def ties(parts: Mapping[str, str]) -> dict[str, Ties]:
    """What of each service of a file decides when it may be replaced."""
    return {name: _ties(entry) for name, entry in json.loads(parts["config"])["services"].items()}


def _ties(entry: Mapping[str, Any]) -> Ties:
    ports = (f"{one['published']}/{one.get('protocol', 'tcp')}" for one in entry.get("ports") or () if one.get("published"))
    return Ties(frozenset(entry.get("depends_on") or {}), frozenset(ports))


def _wanted_service(
    entry: Mapping[str, Any], config_hash: str, images: Mapping[str, Mapping[str, Any]], networks: Mapping[str, str]
) -> ComposeService:
    labels = entry.get("labels") or {}
    one_shot = labels.get(ONE_SHOT_LABEL) == "true"
    image = images.get(entry["image"], {})
    healthy = _is_checked(entry.get("healthcheck") or {}, image) and not one_shot
    # On the host's network, or another container's, it is on none of its own.
    joined = () if entry.get("network_mode") else tuple(sorted(networks[key] for key in entry.get("networks") or {}))
    return ComposeService(
        image=entry["image"],
        image_id=str(image.get("id", "")),
        digest=_digest(image),
        state="completed" if one_shot else "running",
        health="healthy" if healthy else "none",
        config_hash=config_hash,
        content_hash=labels.get(CONTENT_LABEL, ""),
        count=_scale(entry),
        networks=joined or ((str(entry["network_mode"]),) if entry.get("network_mode") in ("host", "none", "bridge") else ()),
    )


def _is_checked(check: Mapping[str, Any], image: Mapping[str, Any]) -> bool:
    """Whether the engine looks after a container's health, by the file's command or else by the image's own."""
    if check.get("disable"):
        return False
    own = ((image.get("config") or {}).get("Healthcheck") or {}).get("Test")
    # Without the image: one that only sets its times is taken to have a command.
    test: Sequence[str] = check.get("test") or (own if image else ["CMD"] if check else None) or ["NONE"]
    return test[0] != "NONE"


def _scale(entry: Mapping[str, Any]) -> int:
    told = (entry.get("scale"), (entry.get("deploy") or {}).get("replicas"))
    return next((int(count) for count in told if count is not None), 1)


def image_digest(text: str, repository: str = "") -> str:
    """The digest by which a registry knows an image, "" where none does."""
    return _digest(next(_lines(text), {}), repository)


def _digest(image: Mapping[str, Any], repository: str = "") -> str:
    known = [str(one) for one in image.get("digests") or () if str(one).startswith(f"{repository}@" if repository else "")]
    return known[0].partition("@")[2] if known else ""


def _images(text: str) -> dict[str, Mapping[str, Any]]:
    split = (line.partition(" ") for line in text.splitlines() if line.strip())
    return {reference: json.loads(document) for reference, _, document in split}


def _names(text: str) -> dict[str, list[str]]:
    """Names by project, of lines `name project`."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, project = line.strip().partition(" ")
        if name:
            found.setdefault(project, []).append(name)
    return found


def _lines(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
        if line.strip():
            yield json.loads(line)
