"""Whether containers are coming up, or waiting for them is in vain."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from labctl.adapters.compose.parse import Container
from labctl.model.compose import ComposeDifference, ComposeService, ComposeState

RESTARTS = 3
"""So many make a loop."""


class Steady:
    """Since when the containers without a health check are the same ones, and running."""

    def __init__(self) -> None:
        self._seen: object = None
        self._since = 0.0

    def since(self, running: Sequence[Container], wanted: ComposeState) -> float:
        """Seconds; endless where every container has a health check or has done its work."""
        watched = [one for one in running if _watched(wanted.services.get(one.service))]
        if not watched:
            return float("inf")
        now = {(one.id, one.started, one.restarts) for one in watched}
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        return time.monotonic() - self._since


def _watched(service: ComposeService | None) -> bool:
    return service is not None and service.health == "none" and service.state == "running"


def hopeless(wanted: ComposeState, running: Sequence[Container], old: Mapping[str, int], *, strict: bool = False) -> bool:
    """Whether waiting longer is in vain: a container that ended for good, or that is restarted again and again.

    Args:
        wanted: The services that are waited for.
        running: Their containers.
        old: The restarts of those that were there before, by id: the engine counts them over all of a container's life, and those
            of long ago say nothing of now.
        strict: Whether one that is new and that the engine calls unhealthy is given up.
    """
    return any(
        _hopeless(service, one, old, strict=strict)
        for one in running
        if (service := wanted.services.get(one.service)) is not None
    )


def _hopeless(service: ComposeService, one: Container, old: Mapping[str, int], *, strict: bool) -> bool:
    looping = one.restarts - old.get(one.id, 0) >= RESTARTS and (one.state == "restarting" or service.health == "none")
    ended = one.state in ("exited", "dead") and one.config_hash == service.config_hash
    ill = strict and one.health == "unhealthy" and service.health == "healthy" and one.id not in old
    return looping or ended or ill


def moving(found: ComposeState, problems: Sequence[ComposeDifference]) -> bool:
    """Whether something is still coming up by itself after Compose gave up."""
    bad = [one for one in problems if one.service]
    return bool(bad) and all(
        one.what in ("health", "state") and found.services[one.service].state in ("running", "restarting") for one in bad
    )


def worst(problems: Sequence[ComposeDifference], running: Sequence[Container]) -> Container | None:
    """The container that is worst off, of which to tell more."""
    bad = [one.service for one in problems if one.service]
    container = next((one for name in bad for one in running if one.service == name), None)
    # Nothing differs, and yet it does not come to rest: it restarts.
    return container or max(running, key=lambda one: one.restarts, default=None)
