"""The apps of layer 4: what each is, its settings in `lab.yaml`, and what it needs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints, field_validator

from labctl.model.services import ImageReference, ServicePort, Services, service_network
from labctl.model.settings import LIST, Settings

ModelName = Annotated[str, StringConstraints(pattern=r"^[^/:@\s]+( [^/:@\s]+)*$", max_length=250)]
Alias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,250}$")]
# GitLab's rules for a group and a project of it, as a path in its registry.
ProjectPath = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)+$")]

_HIGHEST_PORT = 65535

RESULTS_TOPIC = "ml_inference_results"
FEEDBACK_TOPIC = "ml_inference_feedback"


@dataclass(frozen=True, slots=True)
class AppKind:
    """What labctl knows of an app.

    Attributes:
        name: Its name: the key in `lab.yaml`, the stack, the Compose project, the folder under `layers/apps`.
        runtime: What its base image brings; the sandbox's own base image has this name,
        runtime_version: and this tag.
        base: The image that it is built on, on a real lab.
        inside: The port that it answers on in its Docker network, under its name.
        needs_services: Services that must be on.
        needs_apps: Apps that must be on, and are deployed first.
        topics: The topics of Kafka that it writes to, each with the consumer group that reads it; made before it is deployed.
    """

    name: str
    runtime: str
    runtime_version: str
    base: str
    inside: int
    needs_services: tuple[str, ...] = ()
    needs_apps: tuple[str, ...] = ()
    topics: Mapping[str, str] = field(default_factory=dict)


APP_KINDS: Mapping[str, AppKind] = {
    kind.name: kind
    for kind in (
        AppKind(
            "mlserver",
            "python",
            "3.13",
            base="python:3.13-slim-trixie",
            inside=8000,
            needs_services=("kafka", "mlflow"),
            topics={
                RESULTS_TOPIC: "lakehouse-inference-result-consumer",
                FEEDBACK_TOPIC: "lakehouse-inference-feedback-consumer",
            },
        ),
        AppKind("web", "node", "20", base="node:22-trixie-slim", inside=3000, needs_apps=("mlserver",)),
    )
}
"""Every app, each after those that it needs."""


class ServedModel(Settings):
    """A registered model of MLflow that answers requests."""

    name: ModelName
    alias: Alias = Field("production", description="the version with this alias answers; when it moves, the server follows")
    weight: float = Field(1.0, gt=0, le=1e6, allow_inf_nan=False, description="its share of the keys, relative to the others'")


class LabApp(Settings):
    """What all apps have."""

    kind: ClassVar[AppKind]

    enabled: bool = Field(True, description="false: as if it were not named at all")
    base_image: ImageReference | None = Field(None, description="what it is built on; none: labctl's choice")
    port: ServicePort
    memory_mib: int = Field(1024, ge=64)
    replicas: int = Field(1, ge=1, le=8, description="containers; each is reached at a port of its own, from `port` upwards")
    redeploy: str = Field("", max_length=64, description="any change of it deploys again, as a date")

    @property
    def ports(self) -> range:
        """The ports of guest docker that it takes, one a replica."""
        return range(self.port, self.port + self.replicas)


class MlserverApp(LabApp):
    """mlserver: inference over MLflow's models; every answer and every feedback is an event in Kafka."""

    kind: ClassVar[AppKind] = APP_KINDS["mlserver"]

    port: ServicePort = 8000
    models: Annotated[tuple[ServedModel, ...], LIST] = Field(min_length=1)
    poll_s: int = Field(30, ge=1, le=3600, description="how often it looks whether an alias has moved")

    @field_validator("models")
    @classmethod
    def _distinct(cls, value: tuple[ServedModel, ...]) -> tuple[ServedModel, ...]:
        for name, count in Counter(f"{model.name}@{model.alias}" for model in value).items():
            if count > 1:
                raise ValueError(f"{name} is listed {count} times; list it once, with the sum of its weights")
        return value


class WebApp(LabApp):
    """web: a form that asks mlserver, and takes feedback."""

    kind: ClassVar[AppKind] = APP_KINDS["web"]

    port: ServicePort = 3000
    memory_mib: int = Field(256, ge=64)
    title: str = Field("Ask the models", min_length=1, max_length=80)
    sample: str = Field("", max_length=10_000, description="the rows that the form begins with, as JSON")


class Apps(Settings):
    """Layer 4. An app that is named is on."""

    project: ProjectPath = Field("lab/apps", description="the GitLab project in whose registry the images lie, group first")
    package_index: str = Field(
        "", pattern=r"^(https?://[^\s]+)?$", description="where builds get Python packages; empty: uv's own"
    )
    mlserver: MlserverApp | None = None
    web: WebApp | None = None

    @field_validator("web", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {} if value is None else value

    @field_validator("mlserver", mode="before")
    @classmethod
    def _serves_something(cls, value: object) -> object:
        if not value:
            raise ValueError("name at least one model: `mlserver: {models: [{name: NAME, alias: ALIAS, weight: 1}]}`")
        return value

    def on(self) -> dict[str, LabApp]:
        """The apps that are on, each after those that it needs."""
        found = {name: getattr(self, name) for name in APP_KINDS}
        return {name: app for name, app in found.items() if isinstance(app, LabApp) and app.enabled}


@dataclass(frozen=True, slots=True)
class AppSpec:
    """An app that is on, with everything resolved.

    Attributes:
        name: Its name.
        settings: What `lab.yaml` says of it.
        repository: Where its image lies in the lab's registry.
        build_args: What its image is built with.
    """

    name: str
    settings: LabApp
    repository: str
    build_args: Mapping[str, str]

    @property
    def kind(self) -> AppKind:
        """What labctl knows of it."""
        return self.settings.kind

    @property
    def network(self) -> str:
        """The Docker network that it has for itself, and that its users join."""
        return service_network(self.name)

    @property
    def containers(self) -> tuple[str, ...]:
        """Its services in Compose, one a replica. The first has the app's name, so that a second one leaves it alone."""
        return (self.name, *(f"{self.name}-{number}" for number in range(2, self.settings.replicas + 1)))


def app_problems(apps: Apps, services: Services) -> Iterator[str]:
    """What the apps ask for and the rest of the lab does not have, a sentence each."""
    on, below = apps.on(), services.on()
    for name, app in on.items():
        for need in app.kind.needs_services:
            if need not in below:
                yield f"apps.{name} needs service {need}, which is off: write `{need}: {{}}` under services, or switch {name} off"
        for need in app.kind.needs_apps:
            if need not in on:
                yield f"apps.{name} needs app {need}, which is off: name it under apps, or switch {name} off"
    yield from _port_problems(on, services)


def _port_problems(on: Mapping[str, LabApp], services: Services) -> Iterator[str]:
    taken = {22: "SSH of guest docker"} | {service.port: f"service {name}" for name, service in services.on().items()}
    for name, app in on.items():
        if app.ports[-1] > _HIGHEST_PORT:
            yield f"apps.{name}: {app.replicas} replicas from port {app.port} on end beyond {_HIGHEST_PORT}: take a lower one"
        for port in app.ports:
            if port in taken:
                yield f"apps.{name}: port {port} is taken by {taken[port]}: give {name} another `port`"
            taken.setdefault(port, f"app {name}")
