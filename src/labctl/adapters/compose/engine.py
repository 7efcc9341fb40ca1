"""Compose projects on a Docker engine: what is wanted, what is there, and bringing the one to the other."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from labctl.adapters.compose import parse, scripts
from labctl.adapters.compose.content import content_hash, marked
from labctl.adapters.compose.deploying import PULL_TIMEOUT_S, Deployment, Tell, look, masked
from labctl.adapters.compose.errors import ShellError, is_gone
from labctl.adapters.compose.rolling import roll
from labctl.adapters.compose.shell import Shell
from labctl.model.compose import ComposeProject, ComposeState, RegistryLogin
from labctl.model.drift.docker import Inventory
from labctl.model.errors import AdapterError, UserError, nearest
from labctl.model.secret import Secret

DOWN_TIMEOUT_S = 300.0


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
        return parse.wanted_state(look(self._shell, project, marked(project)))

    def found(self, name: str) -> ComposeState:
        """What there is of a project; nothing at all is an empty state."""
        return self.projects(name).get(name, ComposeState({}))

    def projects(self, name: str = "") -> dict[str, ComposeState]:
        """What there is of every project, or of one."""
        return parse.found_states(scripts.sections(self._shell.run(scripts.found(name))))

    def inventory(self) -> Inventory:
        """Everything that the engine has, whosever it is."""
        return parse.inventory(scripts.sections(self._shell.run(scripts.inventory())))

    def content_hash(self, project: ComposeProject) -> str:
        """The keyed hash over all secrets of a project."""
        return content_hash(project)

    # -- doing ---------------------------------------------------------------------------------------------------------

    def apply(
        self, project: ComposeProject, *, progress: Tell = lambda _text: None, stop: threading.Event | None = None
    ) -> ComposeState:
        """Brings the project to what is wanted, and waits until it is; returns what there is then.

        Raises:
            ComposeInvalid: The file is not valid.
            NotConverged: The containers do not come to be as wanted.
            Interrupted: `stop` was set. What was made stays; the next apply goes on.
        """
        return Deployment(self._shell, project, progress=progress, stop=stop).converge()

    def roll(
        self,
        project: ComposeProject,
        last: ComposeProject | None,
        *,
        progress: Tell = lambda _text: None,
        stop: threading.Event | None = None,
    ) -> ComposeState:
        """As `apply`, but one service after the other, each only when the one before it is as wanted.

        They go in the file's order; one that depends on another, or wants a port that another still has, comes after it. Where
        one does not come up, the last good file is brought back.

        Args:
            project: The project.
            last: What it was when it was good; None where nobody knows, and then there is no way back.
            progress: Is told what it is at.
            stop: Ends it when it is set.

        Raises:
            ComposeInvalid: The file is not valid.
            ReleaseFailed: A service did not come up; says what is there now.
            NotConverged: Likewise, and there is nothing else to bring back.
            Interrupted: `stop` was set. What was made stays; the next one goes on.
        """
        return roll(self._shell, project, last, progress=progress, stop=stop)

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
        repeat: bool = False,
    ) -> str:
        """What a command in a service's container prints.

        Args:
            project: The project.
            service: The service.
            argv: The command.
            stdin: What it reads.
            env: Its variables besides the container's own.
            timeout_s: How long it may take.
            repeat: Whether it may be run a second time where the connection is lost while it runs; then it must be such that
                nothing comes of that. Without, it fails there.

        Raises:
            UserError: The service does not run.
            ShellError: The command failed.
            EngineUnreachable: There is no way to the engine, or it was lost.
        """
        container = self._one(project, service)
        try:
            script = scripts.execute(container.id, argv, stdin, env or {})
            return self._shell.run(script, timeout_s=timeout_s, repeat=repeat)
        except ShellError as error:
            message = masked(error.message, env or {})
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

    def push(self, tag: str, logins: Sequence[RegistryLogin] = (), stop: threading.Event | None = None) -> str:
        """Pushes an image to its registry; returns the digest by which that knows it."""
        answer = self._shell.run(scripts.push(tag, logins), timeout_s=PULL_TIMEOUT_S, stop=stop)
        return parse.image_digest(answer, _repository(tag))

    def has_image(self, reference: str, logins: Sequence[RegistryLogin] = ()) -> bool:
        """Whether the engine has an image, or can fetch it from its registry.

        Raises:
            AdapterError: The registry does not say: it cannot be reached, or refuses.
        """
        try:
            self._shell.run(scripts.fetch(reference, logins), timeout_s=PULL_TIMEOUT_S)
        except ShellError as error:
            if is_gone(error.message):
                return False
            raise AdapterError(
                f"whether image {reference} is there is not known: {error.message}",
                where=error.where,
                hint=error.hint
                or "Is its registry up? `labctl status` shows the lab's, `labctl up --layer platform` brings it up.",
            ) from None
        return True

    def image_digest(self, reference: str) -> str:
        """The digest of an image that the engine has; "" where it has none, or no registry knows it."""
        try:
            return parse.image_digest(self._shell.run(scripts.digest(reference)), _repository(reference))
        except ShellError:
            return ""

    # ------------------------------------------------------------------------------------------------------------------

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


def _repository(reference: str) -> str:
    """The reference without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
