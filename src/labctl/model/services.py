"""The services of layer 3: what each is, its settings in `lab.yaml`, what it needs, and which secrets it is given. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from labctl.model.settings import LIST, Settings

_IMAGE = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


def _image_reference(value: str) -> str:
    if not _IMAGE.fullmatch(value):
        raise ValueError(f"{value!r} is not an image: write registry/name:tag, or registry/name:tag@sha256:… to pin it")
    return value


ImageReference = Annotated[str, AfterValidator(_image_reference)]
SqlName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
HostPattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*]([A-Za-z0-9.*-]*[A-Za-z0-9*])?(:([0-9]+|\*))?$")]
ServicePort = Annotated[int, Field(ge=1, le=65535)]

_SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class ServiceKind:
    """What labctl knows of a service.

    Attributes:
        name: Its name: the key in `lab.yaml`, the Compose project, the folder under `layers/services`.
        upstream: The image that it runs from on a real lab.
        version: The version in it. The sandbox's own image has it as its tag.
        inside: The port that it answers on in its Docker network, under its name.
        listens: The port inside that is published on the guest; 0: `inside`.
        scheme: What stands before its address in a URL; "" where it is spoken to by no URL.
        needs: Services that must be there first.
        bucket: The bucket of the object store that it keeps things in; "" for none.
        secrets: Each variable that its Compose file takes a secret from, with `path#field` of that secret.
        wait_timeout_s: How long it may take to be healthy. The first start counts, which has more to do than the others.
    """

    name: str
    upstream: str
    version: str
    inside: int
    listens: int = 0
    scheme: str = ""
    needs: tuple[str, ...] = ()
    bucket: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)
    wait_timeout_s: int = 180


SERVICE_KINDS: Mapping[str, ServiceKind] = {
    kind.name: kind
    for kind in (
        ServiceKind(
            "postgres",
            upstream="postgres:18.4",
            version="18.4",
            inside=5432,
            scheme="postgresql",
            secrets={"POSTGRES_PASSWORD": "services/postgres#password"},
        ),
        ServiceKind("kafka", upstream="apache/kafka:4.0.1", version="4.0.1", inside=29092, listens=9092),
        ServiceKind(
            "mlflow",
            upstream="ghcr.io/mlflow/mlflow:v3.9.0-full",
            version="3.9.0",
            inside=5000,
            scheme="http",
            needs=("postgres",),
            bucket="mlflow",
            secrets={
                "POSTGRES_PASSWORD": "services/postgres#password",
                "DATABASE_PASSWORD": "services/mlflow#password",
                "S3_ACCESS_KEY": "store/mlflow#access_key",
                "S3_SECRET_KEY": "store/mlflow#secret_key",
            },
            wait_timeout_s=300,
        ),
        ServiceKind("ollama", upstream="ollama/ollama:0.18.2", version="0.18.2", inside=11434, scheme="http"),
        ServiceKind(
            "open_webui",
            upstream="ghcr.io/open-webui/open-webui:v0.8.12",
            version="0.8.12",
            inside=8080,
            scheme="http",
            needs=("ollama",),
            secrets={
                "ADMIN_PASSWORD": "services/open_webui#password",
                "SESSION_KEY": "services/open_webui#session_key",
            },
            wait_timeout_s=600,
        ),
        ServiceKind(
            "portainer",
            # Only the variant on Alpine has a program in it by which health can be asked for.
            upstream="portainer/portainer-ce:2.33.6-alpine",
            version="2.33.6",
            inside=9000,
            scheme="http",
            secrets={"ADMIN_PASSWORD": "services/portainer#password"},
        ),
    )
}
"""Every service, each after those that it needs. Images and versions stand here only."""


class Service(Settings):
    """What all services have."""

    kind: ClassVar[ServiceKind]

    enabled: bool = Field(True, description="false: as if it were not named at all")
    image: ImageReference | None = Field(None, description="none: labctl's choice; `name:tag@sha256:…` pins it")
    port: ServicePort
    memory_mib: int = Field(2048, ge=64)


class PostgresService(Service):
    """PostgreSQL."""

    kind: ClassVar[ServiceKind] = SERVICE_KINDS["postgres"]

    port: ServicePort = 5432
    superuser: SqlName = Field("postgres", description="counts when the data volume is made; changed later, it is refused")
    max_connections: int = Field(100, ge=10, le=10_000)
    shared_buffers_mib: int = Field(256, ge=16)
    shared_memory_mib: int = Field(256, ge=64, description="what parallel queries exchange rows through")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.shared_buffers_mib >= self.memory_mib:
            raise ValueError(f"shared_buffers_mib {self.shared_buffers_mib} does not fit in memory_mib {self.memory_mib}")
        return self


class KafkaService(Service):
    """Apache Kafka: one node, in KRaft mode."""

    kind: ClassVar[ServiceKind] = SERVICE_KINDS["kafka"]

    port: ServicePort = 9092
    heap_mib: int = Field(1024, ge=128)
    retention_hours: int = Field(168, ge=1, description="how long a topic keeps its records, unless the topic says else")
    retention_mib: int | None = Field(None, ge=1, description="how much a partition keeps at most; none: without limit")
    partitions: int = Field(1, ge=1, le=1000, description="of a topic that does not say")
    auto_create_topics: bool = Field(False, description="make a topic that a client names and nobody made")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.heap_mib >= self.memory_mib:
            raise ValueError(
                f"heap_mib {self.heap_mib} does not fit in memory_mib {self.memory_mib}, which holds more than the heap"
            )
        return self


class MlflowService(Service):
    """MLflow: tracking server and model registry."""

    kind: ClassVar[ServiceKind] = SERVICE_KINDS["mlflow"]

    port: ServicePort = 5000
    database: SqlName = Field("mlflow", description="its database, and the role that owns it")
    workers: int = Field(2, ge=1, le=64)
    allowed_hosts: Annotated[tuple[HostPattern, ...], LIST] = Field(
        (), description="more names by which clients reach it, with port; `*` stands for anything"
    )


class OllamaService(Service):
    """Ollama."""

    kind: ClassVar[ServiceKind] = SERVICE_KINDS["ollama"]

    port: ServicePort = 11434
    memory_mib: int = Field(16384, ge=512)
    gpu: bool | None = Field(None, description="none: when guest docker has one")
    keep_alive_minutes: int = Field(5, ge=0, description="how long a model stays loaded after a question")


class OpenWebuiService(Service):
    """Open WebUI."""

    kind: ClassVar[ServiceKind] = SERVICE_KINDS["open_webui"]

    port: ServicePort = 8080
    admin_email: str = Field("", pattern=r"^([A-Za-z0-9._+-]+@[A-Za-z0-9.-]+)?$", description="empty: admin@<domain>")


class PortainerService(Service):
    """Portainer."""

    kind: ClassVar[ServiceKind] = SERVICE_KINDS["portainer"]

    port: ServicePort = 9080
    memory_mib: int = Field(256, ge=64)


class Services(Settings):
    """Layer 3. A service that is named is on."""

    postgres: PostgresService | None = None
    kafka: KafkaService | None = None
    mlflow: MlflowService | None = None
    ollama: OllamaService | None = None
    open_webui: OpenWebuiService | None = None
    portainer: PortainerService | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {} if value is None else value

    def on(self) -> dict[str, Service]:
        """The services that are on, each after those that it needs."""
        found = {name: getattr(self, name) for name in SERVICE_KINDS}
        return {name: service for name, service in found.items() if isinstance(service, Service) and service.enabled}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        services = self.on()
        for name, service in services.items():
            for need in service.kind.needs:
                if need not in services:
                    raise ValueError(f"{name} needs {need}, which is off: write `{need}: {{}}` here, or switch {name} off")
        taken = {_SSH_PORT: "SSH of guest docker"}
        for name, service in services.items():
            if service.port in taken:
                raise ValueError(
                    f"port {service.port} is used twice, by {taken[service.port]} and {name}: give one another `port`"
                )
            taken[service.port] = name
        return self


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service that is on, with everything resolved.

    Attributes:
        name: Its name.
        settings: What `lab.yaml` says of it.
        needs: Services that must be there first.
        image: The image that it runs from.
    """

    name: str
    settings: Service
    needs: tuple[str, ...]
    image: str

    @property
    def kind(self) -> ServiceKind:
        """What labctl knows of it."""
        return self.settings.kind

    @property
    def listens(self) -> int:
        """The port in the container that is published on the guest."""
        return self.kind.listens or self.kind.inside

    @property
    def network(self) -> str:
        """The Docker network that it has for itself, and that its users join."""
        return service_network(self.name)


def service_network(name: str) -> str:
    """The Docker network of a service."""
    return f"lab-{name.replace('_', '-')}"


def problems(services: Services, *, buckets: tuple[str, ...], gpu: bool) -> Iterator[str]:
    """What the services ask for and the rest of the lab does not have, a sentence each."""
    for name, service in services.on().items():
        bucket = service.kind.bucket
        if bucket and bucket not in buckets:
            yield f"services.{name} needs bucket {bucket!r}: add it to foundation.store.buckets, or switch {name} off"
        if isinstance(service, OllamaService) and service.gpu and not gpu:
            yield f"services.{name}.gpu: guest docker has no GPU; describe it in platform.docker.gpu, or leave this out"
