"""A release that goes service by service, and back to the last good file where a service does not come up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from labctl.adapters.compose.content import listed, marked
from labctl.adapters.compose.deploying import Deployment, Stop, Tell
from labctl.adapters.compose.errors import NotConverged, ReleaseFailed
from labctl.adapters.compose.shell import Shell
from labctl.model.compose import ComposeProject, ComposeService, ComposeState
from labctl.model.errors import LabError
from labctl.model.rolling import changed, held_ports, replacement_order

_AGAIN = "The next apply tries the release again: mend it first, or go back to what was there before."


def roll(shell: Shell, project: ComposeProject, last: ComposeProject | None, *, progress: Tell, stop: Stop) -> ComposeState:
    """As `ComposeEngine.roll`."""
    release = Deployment(shell, project, progress=progress, stop=stop)
    order = _order(release, listed(project))
    done: list[str] = []
    try:
        for service in order:
            done.append(service)
            progress(f"replacing {service}")
            release.replace(service, strict=True)
        return release.converge()
    except NotConverged as error:
        left = order[len(done) :]
        if left:
            error.hint = _lines(error.hint, f"Not replaced: {', '.join(left)}.")
        if not done or last is None or marked(last) == release.text:
            raise
        failed = next((one.service for one in error.differences if one.service in done), done[-1])
        raise _put_back(shell, release, last, (failed, *reversed(done)), error, progress=progress, stop=stop) from None


def _put_back(
    shell: Shell,
    release: Deployment,
    last: ComposeProject,
    preferred: Sequence[str],
    error: NotConverged,
    *,
    progress: Tell,
    stop: Stop,
) -> ReleaseFailed:
    """Brings the last good file back: the service that failed first, because meanwhile the others serve."""
    name, failed = last.name, release.said_of(preferred[0])
    target = "what was there before"
    try:
        before = Deployment(shell, last, progress=progress, stop=stop)
        target = _target(before.wanted)
        for service in _order(before, preferred):
            progress(f"putting back {service}")
            before.replace(service, strict=False)
        before.converge()
    except LabError as second:
        now = ""
        with suppress(LabError):
            now = "; ".join(_shown(*entry) for entry in release.found()[0].services.items())
        return ReleaseFailed(
            f"{failed}, and {name} could not be put back on {target}: {second.message}",
            where=f"project {name}",
            hint=_lines(
                f"Why {failed}: {error.message}",
                error.hint,
                second.hint and f"Why it could not be put back: {second.hint}",
                now and f"Now there: {now}.",
                f"`labctl logs {name}` and `docker compose -p {name} ps --all` on the engine's machine show more. {_AGAIN}",
            ),
        )
    return ReleaseFailed(
        f"{failed}; {name} is back on {target}",
        where=f"project {name}",
        hint=_lines(f"Why: {error.message}", error.hint, _AGAIN),
        back=True,
    )


def _order(deployment: Deployment, preferred: Sequence[str]) -> tuple[str, ...]:
    found, containers = deployment.found()
    held = held_ports((one.service, one.ports) for one in containers)
    return replacement_order(preferred, changed(deployment.wanted, found), deployment.ties, held)


def _target(wanted: ComposeState) -> str:
    images = {name: _reference(service) for name, service in wanted.services.items()}
    if len(set(images.values())) == 1:
        return next(iter(images.values()))
    return ", ".join(f"{image} ({name})" for name, image in images.items()) or "nothing"


def _reference(service: ComposeService) -> str:
    if "@" in service.image:
        return service.image
    # One that was never in a registry has no digest there.
    return f"{service.image}@{service.digest}" if service.digest else f"{service.image} ({service.image_id[:19]})"


def _shown(name: str, service: ComposeService) -> str:
    health = "" if service.health == "none" else f", {service.health}"
    return f"{name} {service.state}{health} on {_reference(service)}"


def _lines(*parts: str) -> str:
    return "\n".join(filter(None, parts))
