"""Compose projects on a Docker engine: what is wanted, what is there, and bringing the one to the other."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from labctl.adapters.compose import parse, scripts
from labctl.adapters.compose.content import content_hash, marked
from labctl.adapters.compose.errors import ComposeInvalid, Interrupted, NotConverged, ShellError
from labctl.adapters.compose.shell import Shell
from labctl.model.compose import (
    PROJECT_NAME,
    ComposeDifference,
    ComposeProject,
    ComposeService,
    ComposeState,
    differences,
)
from labctl.model.errors import AdapterError, UserError, nearest
from labctl.model.secret import Secret

POLL_S = 0.5
SETTLE_S = 2.0
"""How long a container without a health check must run to count as up: one that ends at once is restarted before that."""
PULL_TIMEOUT_S = 1800.0
DOWN_TIMEOUT_S = 300.0
LOG_LINES = 20
MASK = "***"

Tell = Callable[[str], None]


class ComposeEngine:
    """The engine behind a shell. Several threads may use one.

    Every method raises `EngineUnreachable` where the engine does not answer, and `ShellError` for what it says no to.

    Args:
        shell: Where `docker` is.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def close(self) -> None:
        """Ends the shell's connection."""
        self._shell.close()

    # -- looking -------------------------------------------------------------------------------------------------------

    def wanted(self, project: ComposeProject) -> ComposeState:
        """What Compose would make of the project.

        Raises:
            ComposeInvalid: The file is not valid.
        """
        return self._wanted(project, marked(project))

    def found(self, name: str) -> ComposeState:
        """What there is of a project; nothing at all is an empty state."""
        return self.projects(name).get(name, ComposeState({}))

    def projects(self, name: str = "") -> dict[str, ComposeState]:
        """What there is of every project, or of one."""
        return parse.found_states(scripts.sections(self._shell.run(scripts.found(name))))

    def content_hash(self, project: ComposeProject) -> str:
        """The keyed hash over all secrets of a project."""
        return content_hash(project)

    # -- doing ---------------------------------------------------------------------------------------------------------

    def apply(
        self, project: ComposeProject, *, progress: Tell = lambda _text: None, stop: threading.Event | None = None
    ) -> ComposeState:
        """Brings the project to what is wanted, and waits until it is; returns what there is then.

        Whether it worked is seen by looking at the containers: Compose's own `--wait` takes a restart loop for success and a
        one-shot that ended for failure.

        Raises:
            ComposeInvalid: The file is not valid.
            NotConverged: The containers do not come to be as wanted.
            Interrupted: `stop` was set. What was made stays; the next apply goes on.
        """
        text = marked(project)
        wanted = self._wanted(project, text)
        if any(not service.image_id for service in wanted.services.values()):
            progress("fetching images")
            self._fetch(project, text, stop)
            wanted = self._wanted(project, text)
        parts = scripts.sections(self._shell.run(scripts.found(project.name)))
        before = parse.found_states(parts).get(project.name, ComposeState({}))
        # The engine counts restarts over all of a container's life: those of long ago say nothing of now.
        old = {one.id: one.restarts for one in parse.containers(parts.get("containers", ""))}
        # Compose takes a container that was made and never started as it is, also where it was cut off before it got its secrets.
        networks = {one.service for one in differences(wanted, before) if one.what == "networks"}
        # One that is paused it can neither start nor leave.
        stuck = {name for name, service in before.services.items() if service.state in ("created", "paused")}
        recreate = sorted((networks | stuck) & set(wanted.services))
        said = ""
        try:
            dropped = sorted(set(before.networks) - set(wanted.networks))
            script = scripts.up(project.name, text, project.secrets, recreate, dropped)
            self._shell.run(script, timeout_s=project.wait_s, stop=stop)
        except ShellError as error:
            # Its own exit code says little either way: the containers decide. What it said may be why.
            said = "\n".join(filter(None, (_masked(error.message, project.secrets), error.hint)))
        return self._wait(project, wanted, said, old, progress=progress, stop=stop)

    def destroy(self, name: str, *, volumes: bool = False) -> None:
        """Removes the containers and networks of a project, and its volumes where asked. Nothing there is no error."""
        self._shell.run(scripts.down(name, volumes=volumes), timeout_s=DOWN_TIMEOUT_S)

    # -- containers ----------------------------------------------------------------------------------------------------

    def logs(self, project: str, service: str = "", lines: int = 100) -> str:
        """The last lines of a service's containers."""
        return "".join(self._shell.run(scripts.logs(one.id, lines)) for one in self._containers(project, service))

    def follow_logs(self, project: str, service: str = "", lines: int = 100) -> int:
        """Shows a service's lines as they come, on this process's own output, until Ctrl-C."""
        return self._shell.follow(scripts.follow(self._one(project, service).id, lines))

    def execute(
        self,
        project: str,
        service: str,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, Secret] | None = None,
        timeout_s: float = 120.0,
    ) -> str:
        """What a command in a service's container prints.

        Raises:
            UserError: The service does not run.
            ShellError: The command failed.
        """
        container = self._one(project, service)
        try:
            return self._shell.run(scripts.execute(container.id, argv, stdin, env or {}), timeout_s=timeout_s)
        except ShellError as error:
            message = _masked(error.message, env or {})
            raise ShellError(message, code=error.code, hint=error.hint, where=error.where) from None

    def enter(self, project: str, service: str, argv: Sequence[str]) -> int:
        """Runs a command in a service's container on this terminal; returns its exit code."""
        return self._shell.follow(scripts.enter(self._one(project, service).id, argv))

    # -- images --------------------------------------------------------------------------------------------------------

    def build(
        self,
        tag: str,
        context: bytes,
        *,
        dockerfile: str = "Dockerfile",
        args: Mapping[str, str] | None = None,
        platforms: Sequence[str] = (),
        stop: threading.Event | None = None,
    ) -> str:
        """Builds an image from a context, a tar archive; returns what the build said."""
        script = scripts.build(tag, dockerfile, args or {}, platforms)
        return self._shell.feed(script, context, timeout_s=PULL_TIMEOUT_S, stop=stop)

    def push(self, tag: str, stop: threading.Event | None = None) -> str:
        """Pushes an image to its registry; returns the digest by which that knows it."""
        answer = self._shell.run(scripts.push(tag), timeout_s=PULL_TIMEOUT_S, stop=stop)
        return parse.image_digest(answer, _repository(tag))

    def has_image(self, reference: str) -> bool:
        """Whether the engine has an image, or can fetch it from its registry."""
        try:
            self._shell.run(scripts.fetch(reference), timeout_s=PULL_TIMEOUT_S)
        except ShellError:
            return False
        return True

    def image_digest(self, reference: str) -> str:
        """The digest of an image that the engine has; "" where it has none, or no registry knows it."""
        try:
            return parse.image_digest(self._shell.run(scripts.digest(reference)), _repository(reference))
        except ShellError:
            return ""

    # ------------------------------------------------------------------------------------------------------------------

    def _wanted(self, project: ComposeProject, text: str) -> ComposeState:
        if not re.fullmatch(PROJECT_NAME, project.name):
            raise UserError(
                f"{project.name!r} is not a name for a Compose project",
                hint="Use lower-case letters, digits, - and _, and begin with a letter or digit.",
            )
        try:
            answer = self._shell.run(scripts.wanted(project.name, text, project.secrets))
        except ShellError as error:
            if error.code < 0:
                raise
            message = f"Compose refuses its file: {_masked(error.message, project.secrets)}"
            raise ComposeInvalid(message, where=f"project {project.name}", hint=error.hint) from None
        return parse.wanted_state(scripts.sections(answer))

    def _fetch(self, project: ComposeProject, text: str, stop: threading.Event | None) -> None:
        try:
            script = scripts.pull(project.name, text, project.secrets)
            self._shell.run(script, timeout_s=PULL_TIMEOUT_S, stop=stop)
        except ShellError as error:
            message = f"an image cannot be fetched: {_masked(error.message, project.secrets)}"
            raise AdapterError(message, where=f"project {project.name}", hint=error.hint) from None

    def _wait(
        self,
        project: ComposeProject,
        wanted: ComposeState,
        said: str,
        old: Mapping[str, int],
        *,
        progress: Tell,
        stop: threading.Event | None,
    ) -> ComposeState:
        began = time.monotonic()
        steady = _Steady()
        shown = ""
        while True:
            parts = scripts.sections(self._shell.run(scripts.found(project.name)))
            found = parse.found_states(parts).get(project.name, ComposeState({}))
            problems = differences(wanted, found)
            running = parse.containers(parts.get("containers", ""))
            if not problems and steady.since(running, wanted) >= SETTLE_S:
                return found
            waited = time.monotonic() - began
            hopeless = _hopeless(wanted, running, old) or (said and waited > SETTLE_S and not _moving(found, problems))
            if waited > project.wait_s or hopeless:
                raise NotConverged(project.name, problems, self._worst_log(project, problems, running), said)
            if stop is not None and stop.wait(0):
                raise Interrupted("was interrupted", where=f"project {project.name}")
            text = "; ".join(f"{one.service}: {one.found}" for one in problems if one.what in ("state", "health"))
            if text and text != shown:
                progress(text)
                shown = text
            time.sleep(POLL_S)

    def _worst_log(
        self, project: ComposeProject, problems: Sequence[ComposeDifference], running: Sequence[parse.Container]
    ) -> str:
        bad = [one.service for one in problems if one.service]
        container = next((one for name in bad for one in running if one.service == name), None)
        # Nothing differs, and yet it does not come to rest: it restarts.
        container = container or max(running, key=lambda one: one.restarts, default=None)
        if container is None:
            return ""
        return _masked(self._shell.run(scripts.logs(container.id, LOG_LINES)), project.secrets).strip()

    def _containers(self, project: str, service: str) -> list[parse.Container]:
        parts = scripts.sections(self._shell.run(scripts.found(project)))
        every = parse.containers(parts.get("containers", ""))
        chosen = [one for one in every if service in ("", one.service)]
        if not every:
            raise UserError(f"{project} is not there", hint="`labctl up --layer services` brings the services up.")
        if not chosen:
            raise UserError(f"{project} has no service {service!r}", hint=nearest(service, {one.service for one in every}))
        return chosen

    def _one(self, project: str, service: str) -> parse.Container:
        """The container to talk to: of several services, the one that has the project's name, or runs."""
        chosen = self._containers(project, service)
        return min(chosen, key=lambda one: (one.service != (service or project), one.state != "running"))


class _Steady:
    """Since when the containers without a health check are the same ones, and running."""

    def __init__(self) -> None:
        self._seen: object = None
        self._since = 0.0

    def since(self, running: Sequence[parse.Container], wanted: ComposeState) -> float:
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


def _hopeless(wanted: ComposeState, running: Sequence[parse.Container], old: Mapping[str, int]) -> bool:
    """Whether waiting longer is in vain: a container that ended for good, or that is restarted again and again."""
    for one in running:
        service = wanted.services.get(one.service)
        if service is None:
            continue
        if one.restarts - old.get(one.id, 0) >= 3 and (one.state == "restarting" or service.health == "none"):
            return True
        if one.state in ("exited", "dead") and one.config_hash == service.config_hash:
            return True
    return False


def _moving(found: ComposeState, problems: Sequence[ComposeDifference]) -> bool:
    """Whether something is still coming up by itself after Compose gave up."""
    bad = [one for one in problems if one.service]
    return bool(bad) and all(
        one.what in ("health", "state") and found.services[one.service].state in ("running", "restarting") for one in bad
    )


def _masked(text: str, secrets: Mapping[str, Secret]) -> str:
    # A log may hold a part of a value of several lines, and what a program prints of one often lacks its last line break.
    values = {line.strip() for one in secrets.values() for line in one.reveal().splitlines()}
    for value in sorted(values, key=len, reverse=True):
        if len(value) > 3:
            text = text.replace(value, MASK)
    return text


def _repository(reference: str) -> str:
    """The reference without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
