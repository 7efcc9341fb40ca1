"""The settings of each service, put where its Compose file has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from labctl.model.services import (
    KafkaService,
    MlflowService,
    OllamaService,
    OpenWebuiService,
    PostgresService,
    Service,
)
from labctl.services.request import ServiceRequest

Document = dict[str, Any]
Setter = Callable[[Document, ServiceRequest], None]

_S = TypeVar("_S", bound=Service)

AUTHORITY = "/etc/lab/authority.crt"


def _postgres(document: Document, request: ServiceRequest) -> None:
    settings = _typed(request, PostgresService)
    services = document["services"]
    server = services["postgres"]
    server["environment"]["POSTGRES_USER"] = settings.superuser
    server["shm_size"] = f"{settings.shared_memory_mib}m"
    server["command"] = [
        "postgres",
        "-c",
        f"max_connections={settings.max_connections}",
        "-c",
        f"shared_buffers={settings.shared_buffers_mib}MB",
    ]
    services["password"]["environment"]["PGUSER"] = settings.superuser


def _kafka(document: Document, request: ServiceRequest) -> None:
    settings = _typed(request, KafkaService)
    inside = request.service.kind.inside
    environment = document["services"]["kafka"]["environment"]
    environment |= {
        "KAFKA_ADVERTISED_LISTENERS": f"OUTSIDE://{request.address}:{settings.port},INSIDE://kafka:{inside}",
        "KAFKA_HEAP_OPTS": f"-Xms{settings.heap_mib}m -Xmx{settings.heap_mib}m",
        "KAFKA_LOG_RETENTION_HOURS": str(settings.retention_hours),
        "KAFKA_LOG_RETENTION_BYTES": str(-1 if settings.retention_mib is None else settings.retention_mib * 1024 * 1024),
        "KAFKA_NUM_PARTITIONS": str(settings.partitions),
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "true" if settings.auto_create_topics else "false",
    }


def _mlflow(document: Document, request: ServiceRequest) -> None:
    settings = _typed(request, MlflowService)
    database, server = document["services"]["database"], document["services"]["mlflow"]
    postgres = request.lab.services.postgres
    assert postgres is not None  # the model lets no MLflow be without it
    database["image"] = request.lab.service_image("postgres")
    database["environment"] |= {"PGUSER": postgres.superuser, "DATABASE": settings.database}
    server["command"] += [
        f"--backend-store-uri=postgresql://{settings.database}@postgres:5432/{settings.database}",
        f"--workers={settings.workers}",
    ]
    outside = [f"{host}:{settings.port}" for host in (request.address, request.lab.guest("docker").fqdn)]
    hosts = ["localhost:*", "127.0.0.1:*", f"mlflow:{request.service.kind.inside}", *outside, *settings.allowed_hosts]
    server["environment"] |= {
        # Against DNS rebinding it answers to these names only, and takes changes only from pages of its own.
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}" for host in outside),
        "MLFLOW_S3_ENDPOINT_URL": request.s3_endpoint,
        "AWS_DEFAULT_REGION": request.s3_region,
    }
    if request.authority_pem:
        server["environment"]["AWS_CA_BUNDLE"] = AUTHORITY
        server["configs"] = [{"source": "authority", "target": AUTHORITY}]
        document["configs"]["authority"] = {"content": request.authority_pem}


def _ollama(document: Document, request: ServiceRequest) -> None:
    settings = _typed(request, OllamaService)
    server = document["services"]["ollama"]
    server["environment"]["OLLAMA_KEEP_ALIVE"] = f"{settings.keep_alive_minutes}m"
    has_gpu = request.lab.platform.docker.gpu is not None
    if has_gpu if settings.gpu is None else settings.gpu:
        devices = [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
        server["deploy"] = {"resources": {"reservations": {"devices": devices}}}


def _open_webui(document: Document, request: ServiceRequest) -> None:
    settings = _typed(request, OpenWebuiService)
    environment = document["services"]["open_webui"]["environment"]
    environment["WEBUI_ADMIN_EMAIL"] = settings.admin_email or f"admin@{request.lab.network.domain}"


def _portainer(_document: Document, _request: ServiceRequest) -> None:
    """Nothing beyond what all services have."""


SETTERS: Mapping[str, Setter] = {
    "postgres": _postgres,
    "kafka": _kafka,
    "mlflow": _mlflow,
    "ollama": _ollama,
    "open_webui": _open_webui,
    "portainer": _portainer,
}


def _typed(request: ServiceRequest, kind: type[_S]) -> _S:
    settings = request.service.settings
    assert isinstance(settings, kind)  # the model has one class a service
    return settings
