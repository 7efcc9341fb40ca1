"""A Compose project on its way to what is wanted: all of it at once, or one service alone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from labctl.adapters.compose import parse, scripts
from labctl.adapters.compose.content import marked
from labctl.adapters.compose.errors import ComposeInvalid, Interrupted, NotConverged, ShellError
from labctl.adapters.compose.shell import Shell
from labctl.adapters.compose.waiting import Steady, hopeless, moving, worst
from labctl.model.compose import PROJECT_NAME, ComposeProject, ComposeState, differences
from labctl.model.errors import AdapterError, UserError
from labctl.model.rolling import Ties, held_ports, in_the_way
from labctl.model.secret import Secret

POLL_S = 0.5
SETTLE_S = 2.0
"""How long a container without a health check must run to count as up: one that ends at once is restarted before that."""
PULL_TIMEOUT_S = 1800.0
LOG_LINES = 20
MASK = "***"

Tell = Callable[[str], None]
Stop = threading.Event | None


def look(shell: Shell, project: ComposeProject, text: str) -> dict[str, str]:
    """What Compose says of a project, for `parse`.

    Raises:
        ComposeInvalid: The file is not valid.
    """
    if not re.fullmatch(PROJECT_NAME, project.name):
        raise UserError(
            f"{project.name!r} is not a name for a Compose project",
            hint="Use lower-case letters, digits, - and _, and begin with a letter or digit.",
        )
    try:
        return scripts.sections(shell.run(scripts.wanted(project.name, text, project.secrets)))
    except ShellError as error:
        if error.code < 0:
            raise
        message = f"Compose refuses its file: {masked(error.message, project.secrets)}"
        raise ComposeInvalid(message, where=f"project {project.name}", hint=error.hint) from None


class Deployment:
    """Brings a project to what is wanted. Its images are there once this is made; nothing else is done yet.

    Whether it worked is seen by looking at the containers: Compose's own `--wait` takes a restart loop for success and a one-shot
    that ended for failure.

    Args:
        shell: Where `docker` is.
        project: The project.
        progress: Is told what it is at.
        stop: Ends it when it is set. What was made stays; the next one goes on.

    Attributes:
        wanted: What Compose would make of the file.
        ties: What decides the order of its services.

    Raises:
        ComposeInvalid: The file is not valid.
        AdapterError: An image cannot be fetched.
    """

    def __init__(self, shell: Shell, project: ComposeProject, *, progress: Tell, stop: Stop) -> None:
        self._shell, self._progress, self._stop = shell, progress, stop
        self.project, self.text = project, marked(project)
        parts = look(shell, project, self.text)
        if any(not service.image_id for service in parse.wanted_state(parts).services.values()):
            progress("fetching images")
            self._fetch()
            parts = look(shell, project, self.text)
        self.wanted: ComposeState = parse.wanted_state(parts)
        self.ties: Mapping[str, Ties] = parse.ties(parts)

    def found(self) -> tuple[ComposeState, tuple[parse.Container, ...]]:
        """What there is now."""
        parts = scripts.sections(self._shell.run(scripts.found(self.project.name)))
        return parse.found_states(parts).get(self.project.name, ComposeState({})), parse.containers(parts.get("containers", ""))

    def converge(self) -> ComposeState:
        """Brings all of it to what is wanted, and waits until it is; returns what there is then.

        Raises:
            NotConverged: The containers do not come to be as wanted.
            Interrupted: `stop` was set.
        """
        until = time.monotonic() + self.project.wait_s
        before, containers = self.found()
        dropped = sorted(set(before.networks) - set(self.wanted.networks))
        recreate = sorted(_to_recreate(self.wanted, before))
        script = scripts.up(self.project.name, self.text, self.project.secrets, recreate, dropped)
        said = self._run(script)
        return self._wait(self.wanted, said, containers, until)

    def replace(self, service: str, *, strict: bool) -> None:
        """Brings one service to what is wanted, leaves the others alone, and waits until it is.

        Args:
            service: The service.
            strict: Whether it is given up as soon as the engine calls it unhealthy.

        Raises:
            NotConverged: It does not come to be as wanted.
            Interrupted: `stop` was set.
        """
        until = time.monotonic() + self.project.wait_s
        before, containers = self.found()
        forced = service in _to_recreate(self.wanted, before)
        held = held_ports((one.service, one.ports) for one in containers)
        orphans = in_the_way(service, set(before.services) - set(self.wanted.services), self.ties, held)
        secrets = self.project.secrets
        script = scripts.replace(self.project.name, self.text, secrets, service, forced=forced, orphans=orphans)
        said = self._run(script)
        self._wait(_only(self.wanted, service), said, containers, until, strict=strict)

    def said_of(self, service: str) -> str:
        """What became of a service that did not come up, in words."""
        checked = service in self.wanted.services and self.wanted.services[service].health == "healthy"
        return f"{service} did not become healthy" if checked else f"{service} did not come up"

    def _run(self, script: str) -> str:
        """Runs what brings containers up; returns what may be the reason where they do not come up."""
        try:
            self._shell.run(script, timeout_s=self.project.wait_s, stop=self._stop)
        except ShellError as error:
            # Its own exit code says little either way: the containers decide. What it said may be why.
            return "\n".join(filter(None, (masked(error.message, self.project.secrets), error.hint)))
        return ""

    def _fetch(self) -> None:
        project = self.project
        try:
            script = scripts.pull(project.name, self.text, project.secrets, project.logins)
            self._shell.run(script, timeout_s=PULL_TIMEOUT_S, stop=self._stop)
        except ShellError as error:
            message = f"an image cannot be fetched: {masked(error.message, project.secrets)}"
            raise AdapterError(message, where=f"project {project.name}", hint=error.hint) from None

    def _wait(
        self, wanted: ComposeState, said: str, before: Sequence[parse.Container], until: float, *, strict: bool = False
    ) -> ComposeState:
        """Waits for the services of `wanted`: all of the project's, or one."""
        whole = wanted is self.wanted
        old = {one.id: one.restarts for one in before}
        began = time.monotonic()
        # What Compose took its time for must still be seen to stay up.
        until = max(until, began + SETTLE_S + 2 * POLL_S)
        steady = Steady()
        shown = ""
        while True:
            found, containers = self.found()
            if not whole:
                found, containers = (
                    _only(found, *wanted.services),
                    tuple(one for one in containers if one.service in wanted.services),
                )
            problems = differences(wanted, found)
            if not problems and steady.since(containers, wanted) >= SETTLE_S:
                return found
            now = time.monotonic()
            given_up = said and now - began > SETTLE_S and not moving(found, problems)
            if now > until or given_up or hopeless(wanted, containers, old, strict=strict):
                one = worst(problems, containers)
                log, check = ("", "") if one is None else (self._log(one), masked(one.check, self.project.secrets))
                raise NotConverged(self.project.name, problems, log, said, check)
            if self._stop is not None and self._stop.is_set():
                raise Interrupted("was interrupted", where=f"project {self.project.name}")
            text = "; ".join(f"{one.service}: {one.found}" for one in problems if one.what in ("state", "health"))
            if text and text != shown:
                self._progress(text)
                shown = text
            time.sleep(POLL_S)

    def _log(self, container: parse.Container) -> str:
        return masked(self._shell.run(scripts.logs(container.id, LOG_LINES)), self.project.secrets).strip()


def _only(state: ComposeState, *services: str) -> ComposeState:
    return ComposeState({name: service for name, service in state.services.items() if name in services})


def _to_recreate(wanted: ComposeState, before: ComposeState) -> Collection[str]:
    """The services that Compose by itself would leave as they are, or could not start."""
    # Compose takes a container that was made and never started as it is, also where it was cut off before it got its secrets.
    networks = {one.service for one in differences(wanted, before) if one.what == "networks"}
    # One that is paused it can neither start nor leave.
    stuck = {name for name, service in before.services.items() if service.state in ("created", "paused")}
    return (networks | stuck) & set(wanted.services)


def masked(text: str, secrets: Mapping[str, Secret]) -> str:
    """The text without the values of secrets."""
    # A log may hold a part of a value of several lines, and what a program prints of one often lacks its last line break.
    values = {line.strip() for one in secrets.values() for line in one.reveal().splitlines()}
    for value in sorted(values, key=len, reverse=True):
        if len(value) > 3:
            text = text.replace(value, MASK)
    return text
