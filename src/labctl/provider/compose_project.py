"""`labctl_compose_project`: a Compose project as a resource."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from labctl.adapters.compose import EngineUnreachable, ReleaseFailed
from labctl.model.compose import PROJECT_NAME, ComposeProject, ComposeService, ComposeState
from labctl.model.errors import LabError, nearest
from labctl.provider.access import REFERENCE, BadReference, read_secrets, registry_logins
from labctl.provider.framework import STOP, Attribute, Bool, List, Map, Number, Object, Resource, Schema, String, Unknown

if TYPE_CHECKING:
    from labctl.provider.provider import LabctlProvider

State = dict[str, Any]

WAIT_TIMEOUT_S = 120
_SERVICE = Object(
    image=String(),
    image_id=String(),
    digest=String(),
    state=String(),
    health=String(),
    config_hash=String(),
    content_hash=String(),
    count=Number(),
    networks=List(String()),
)
_WAIT = "Seconds that containers may take to be healthy; with `rolling`, those of one service."
_ROLLING = "Whether an update replaces one service after the other, and goes back to the last good file where one fails."
_INPUTS = ("name", "compose", "secrets", "wait_timeout", "remove_volumes", "redeploy", "rolling", "registry_auth")


class ComposeProjectResource(Resource):  # type: ignore[misc]
    """A Compose project. Its services are what Compose would make of the file, and after a refresh what is there."""

    def __init__(self, provider: LabctlProvider) -> None:
        self._provider = provider

    @classmethod
    def get_name(cls) -> str:
        """As the framework asks."""
        return "compose_project"

    @classmethod
    def get_schema(cls) -> Any:
        """As the framework asks."""
        return Schema(
            version=1,
            attributes=[
                Attribute("name", String(), required=True, requires_replace=True, description="Name of the project."),
                Attribute("compose", String(), required=True, description="The Compose file; secrets only as `${VARIABLE}`."),
                Attribute("secrets", Map(String()), optional=True, description="Variable to `path#field` in the Vault."),
                Attribute("wait_timeout", Number(), optional=True, description=_WAIT),
                Attribute("remove_volumes", Bool(), optional=True, description="Whether a destroy removes its volumes too."),
                Attribute("redeploy", String(), optional=True, description="Any change recreates the containers."),
                Attribute("rolling", Bool(), optional=True, description=_ROLLING),
                Attribute(
                    "registry_auth", Map(String()), optional=True, description="Registry `host:port` to a path in the Vault."
                ),
                Attribute("id", String(), computed=True),
                Attribute("content_hash", String(), computed=True, description="Keyed hash over the secrets' values."),
                Attribute("services", Map(_SERVICE), computed=True),
                Attribute("networks", List(String()), computed=True),
            ],
        )

    def validate(self, diagnostics: Any, type_name: str, config: State) -> None:
        """As the framework asks."""
        super().validate(diagnostics, type_name, config)
        name = config.get("name")
        if isinstance(name, str) and not re.fullmatch(PROJECT_NAME, name):
            remedy = "Use lower-case letters, digits, - and _, and begin with a letter or digit."
            diagnostics.add_error(f"{name!r} is not a name for a Compose project", remedy, path=["name"])
        secrets = config.get("secrets")
        for variable, reference in secrets.items() if isinstance(secrets, dict) else ():
            if isinstance(reference, str) and not REFERENCE.fullmatch(reference):
                diagnostics.add_error(
                    f"{reference!r} is no reference to a secret", "Write path#field.", path=["secrets", (variable,)]
                )

    # -- plan ----------------------------------------------------------------------------------------------------------

    def plan(self, context: Any, current: State | None, planned: State) -> State:
        """What the project would be. Where that cannot be known yet, a create is planned all the same."""
        if planned["name"] is not Unknown:
            planned["id"] = planned["name"]
        planned |= {"content_hash": Unknown, "services": Unknown, "networks": Unknown}
        if _unknown(planned):
            return planned
        try:
            project = _project(planned)
            # A changed secret is seen, whether or not the engine is.
            engine = self._provider.engine()
            planned["content_hash"] = engine.content_hash(project)
            planned |= _state(engine.wanted(project), planned=True)
        except LabError as error:
            if current is None and _may_come(error):
                context.diagnostics.add_warning("what the project would be is not known yet", f"{error.message}\n{_said(error)}")
            else:
                context.diagnostics.add_error(error.message, _said(error), path=_path(error))
        return planned

    # -- read ----------------------------------------------------------------------------------------------------------

    def read(self, context: Any, current: State) -> State | None:
        """What is there. A project of which no container and no network is left is gone; its volumes wait for the next one."""
        try:
            found = self._provider.engine().found(current["name"])
        except LabError as error:
            context.diagnostics.add_error(error.message, _said(error))
            return current
        if not found.services and not found.networks:
            return None
        return {**current, **_state(found)}

    def import_(self, context: Any, id: str) -> State | None:  # noqa: A002 - the framework's name
        """Takes over a project by its name; the next apply gives it the file."""
        state: State = dict.fromkeys((*_INPUTS, "content_hash"))
        try:
            projects = self._provider.engine().projects()
        except LabError as error:
            context.diagnostics.add_error(error.message, _said(error))
            return None
        if id not in projects:
            context.diagnostics.add_error(f"there is no Compose project {id!r} on the engine", nearest(id, projects))
            return None
        return {**state, "name": id, "id": id, **_state(projects[id])}

    # -- apply ---------------------------------------------------------------------------------------------------------

    def create(self, context: Any, planned: State) -> State | None:
        """Brings it up. One that failed leaves no state: the next apply goes on where it is, and nothing is destroyed."""
        return self._apply(context, planned, None)

    def update(self, context: Any, current: State, planned: State) -> State | None:
        """Brings it to what is planned. One that failed leaves the state as it was, so that the next plan shows it again.

        With `rolling`, what it was is there again, too.
        """
        return self._apply(context, planned, current)

    def delete(self, context: Any, current: State) -> State | None:
        """Takes it down, and its volumes only where that is asked for."""
        try:
            self._provider.engine().destroy(current["name"], volumes=bool(current["remove_volumes"]))
        except LabError as error:
            context.diagnostics.add_error(error.message, _said(error))
            return current
        return None

    def upgrade(self, _context: Any, _version: int, old: State) -> State:
        """As the framework asks; there is one version."""
        return old

    def _apply(self, context: Any, planned: State, before: State | None) -> State | None:
        try:
            project = replace(_project(planned), logins=registry_logins(planned["registry_auth"] or {}))
            engine = self._provider.engine()
            if before is not None and planned["rolling"]:
                last = _last(before)
                found = engine.roll(project, replace(last, logins=project.logins) if last else None, stop=STOP)
            else:
                found = engine.apply(project, stop=STOP)
            return {**planned, "id": project.name, "content_hash": engine.content_hash(project), **_state(found)}
        except ReleaseFailed as error:
            # Terraform says whose it is.
            context.diagnostics.add_error(error.message, error.hint, path=["compose"])
            return before
        except LabError as error:
            context.diagnostics.add_error(str(error), error.hint, path=_path(error))
            return before


def _unknown(planned: State) -> bool:
    secrets = planned["secrets"] or {}
    return any(planned[name] is Unknown for name in _INPUTS) or any(value is Unknown for value in secrets.values())


def _project(state: State) -> ComposeProject:
    """Raises `LabError` where a secret cannot be read."""
    try:
        secrets, key = read_secrets(state["secrets"] or {})
    except LabError as error:
        error.__dict__["attribute"] = "secrets"
        raise
    return ComposeProject(
        name=state["name"],
        text=state["compose"],
        secrets=secrets,
        content_key=key,
        wait_s=float(state["wait_timeout"] or WAIT_TIMEOUT_S),
        redeploy=state["redeploy"] or "",
    )


def _last(before: State) -> ComposeProject | None:
    """What was good before, as far as that is known: with the secrets of today, for what they were is nowhere."""
    try:
        # One that was taken over by an import has no file yet.
        return _project(before) if before["compose"] else None
    except LabError:
        return None


def _attribute(error: LabError) -> str:
    return str(error.__dict__.get("attribute", "compose"))


def _path(error: LabError) -> list[Any]:
    """Where in the configuration it belongs."""
    attribute = _attribute(error)
    return [attribute, (error.variable,)] if isinstance(error, BadReference) else [attribute]


def _may_come(error: LabError) -> bool:
    """Whether what is missing may be there when it is applied: the layers below may be about to bring it.

    Among that is a Vault that is out of reach, sealed or not made yet, and a right that its role does not have yet.
    """
    if isinstance(error, BadReference):
        return False
    return isinstance(error, EngineUnreachable) or _attribute(error) == "secrets" or "is not set" in error.message


def _said(error: LabError) -> str:
    return "\n".join(filter(None, (error.where, error.hint)))


def _state(state: ComposeState, *, planned: bool = False) -> State:
    return {
        "services": {name: _service(service, planned=planned) for name, service in state.services.items()},
        "networks": list(state.networks),
    }


def _service(service: ComposeService, *, planned: bool) -> State:
    # Of an image that the engine has to fetch first, nobody knows these yet.
    later = {"image_id": Unknown, "digest": Unknown} if planned and not service.image_id else {}
    if later and service.state == "running" and service.health == "none":
        # The image may bring a check of its own.
        later["health"] = Unknown
    return {**asdict(service), "networks": list(service.networks), **later}
