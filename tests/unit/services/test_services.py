"""What the services' Compose files say."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labctl.cloudinit.layerfiles import layer_text
from labctl.cloudinit.yamltext import yaml_text
from labctl.model.catalogue import catalogue
from labctl.model.compose import ONE_SHOT_LABEL, PROJECT_NAME
from labctl.model.errors import LabError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.services import SERVICE_KINDS, ServiceKind
from labctl.services import ServiceRequest, compose_text
from stacks.constructs.literal import literal
from tests.hcl import evaluate

ALL = "{postgres: {}, kafka: {}, mlflow: {}, ollama: {}, open_webui: {}, portainer: {}}"
ADDRESS, ENDPOINT, REGION = "${TfToken[TOKEN.1]}", "${TfToken[TOKEN.2]}", "${TfToken[TOKEN.3]}"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
NAMES = list(SERVICE_KINDS)
GPU = """platform: {docker: {gpu: {
  vga_path: "0000:01:00.0", vga_id: "10de:2204", vga_subsystem_id: "10de:147d", vga_iommu_group: 14,
  audio_path: "0000:01:00.1", audio_id: "10de:1aef", audio_subsystem_id: "10de:147d", audio_iommu_group: 14}}}
"""


def lab(services: str = ALL, more: str = "") -> Lab:
    return parse_lab(f"name: lab\ntarget: {{sandbox: {{guests: container}}}}\n{more}services: {services}\n")


def text(name: str, this: Lab | None = None, pem: str = PEM) -> str:
    this = this or lab()
    service = {spec.name: spec for spec in this.service_specs()}[name]
    return compose_text(ServiceRequest(this, service, ADDRESS, ENDPOINT, REGION, pem))


def rendered(name: str, this: Lab | None = None, pem: str = PEM) -> dict[str, Any]:
    return dict(yaml.safe_load(text(name, this, pem)))


def one_shot(service: dict[str, Any]) -> bool:
    return service.get("labels", {}).get(ONE_SHOT_LABEL) == "true"


@pytest.mark.parametrize("name", NAMES)
def test_what_every_service_has(name: str) -> None:
    document = rendered(name)
    assert document["name"] == name
    assert re.fullmatch(PROJECT_NAME, name)
    assert document["networks"]["default"] == {"name": f"lab-{name.replace('_', '-')}"}
    for key, service in document["services"].items():
        assert service["image"].startswith("198.18.86.1:8088/lab/")
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
        assert re.fullmatch(r"\d+m", service["mem_limit"])
        if one_shot(service):
            assert (service["restart"], "healthcheck" in service, "ports" in service) == ("no", False, False)
            continue
        assert (key, service["restart"]) == (name, "unless-stopped")
        assert service["healthcheck"]["interval"] == "10s"
        assert 3 <= service["healthcheck"]["retries"] <= 5
    settings = getattr(lab().services, name)
    kind = SERVICE_KINDS[name]
    assert document["services"][name]["ports"] == [f"{settings.port}:{kind.listens or kind.inside}"]
    assert document["services"][name]["mem_limit"] == f"{settings.memory_mib}m"


@pytest.mark.parametrize("name", NAMES)
def test_volumes_have_names_and_nothing_of_the_repository_is_mounted(name: str) -> None:
    document = rendered(name)
    volumes = document.get("volumes", {})
    assert all(volume["name"].startswith(f"lab-{name.replace('_', '-')}-") for volume in volumes.values())
    sources = {mount.split(":")[0] for service in document["services"].values() for mount in service.get("volumes", ())}
    assert sources - volumes.keys() <= ({"/var/run/docker.sock"} if name == "portainer" else set())
    assert volumes or name == "mlflow"  # what MLflow keeps is in PostgreSQL and in the object store


@pytest.mark.parametrize("name", NAMES)
def test_networks_of_others_are_those_of_its_needs(name: str) -> None:
    joined = {key: network for key, network in rendered(name)["networks"].items() if key != "default"}
    assert joined == {need: {"name": f"lab-{need}", "external": True} for need in SERVICE_KINDS[name].needs}


@pytest.mark.parametrize("name", NAMES)
def test_secrets_are_files_and_are_in_no_environment(name: str) -> None:
    document, given_to = rendered(name), SERVICE_KINDS[name].secrets
    sources = {key: secret["environment"] for key, secret in document.get("secrets", {}).items()}
    assert set(sources.values()) == set(given_to)
    used = {secret for service in document["services"].values() for secret in service.get("secrets", ())}
    assert used == set(sources)
    for service in document["services"].values():
        mounted = {f"/run/secrets/{secret}" for secret in service.get("secrets", ())}
        told = " ".join([*service.get("entrypoint", ()), *service.get("command", ()), *service.get("environment", {}).values()])
        configs = " ".join(document["configs"][config["source"]]["content"] for config in service.get("configs", ()))
        assert set(re.findall(r"/run/secrets/\w+", told + configs)) == mounted
        assert not service.get("environment", {}).keys() & given_to.keys()


@pytest.mark.parametrize("name", NAMES)
def test_compose_finds_no_variable_in_it(name: str) -> None:
    """What is no dollar of Compose's is one of the token that Terraform fills in."""
    left = re.sub(r"\$\{TfToken\[TOKEN\.\d\]\}", "", text(name)).replace("$$", "")
    assert "$" not in left


@pytest.mark.parametrize("name", NAMES)
def test_terraform_fills_in_the_tokens_and_takes_the_rest_as_it_is(name: str) -> None:
    original = text(name)
    assert evaluate(literal(original)) == re.sub(r"\$\{(TfToken\[TOKEN\.\d\])\}", r"<\1>", original)


PIECES = st.lists(st.sampled_from([*"${}%\n\"'\\:# a", "${A}", "%{if}", "$${B}"])).map("".join)


@given(st.dictionaries(st.text("ABC", min_size=1), PIECES))
def test_a_variable_of_compose_is_none_of_terraforms(environment: dict[str, str]) -> None:
    written = yaml_text({"services": {"a": {"environment": environment}}})
    assert yaml.safe_load(evaluate(literal(written)))["services"]["a"]["environment"] == environment


def test_no_script_has_the_brace_form_of_a_variable() -> None:
    for name in NAMES:
        assert "${" not in layer_text(f"services/{name}/compose.yaml")


def test_secrets_are_in_the_catalogue() -> None:
    known = {f"{spec.path}#{field}" for spec in catalogue(lab()) for field in spec.fields}
    assert {source for kind in SERVICE_KINDS.values() for source in kind.secrets.values()} <= known


def test_a_file_that_takes_other_secrets_than_it_is_given_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from labctl.model.services import PortainerService

    monkeypatch.setattr(PortainerService, "kind", ServiceKind("portainer", "p:1", "1", 9000, secrets={"OTHER": "a#b"}))
    with pytest.raises(LabError, match="differ about the secrets ADMIN_PASSWORD, OTHER"):
        text("portainer")


def test_postgres_takes_its_settings() -> None:
    this = lab("{postgres: {superuser: admin, max_connections: 50, shared_buffers_mib: 128, shared_memory_mib: 64}}")
    services = rendered("postgres", this)["services"]
    assert services["postgres"]["command"] == ["postgres", "-c", "max_connections=50", "-c", "shared_buffers=128MB"]
    assert services["postgres"]["shm_size"] == "64m"
    assert services["postgres"]["environment"]["POSTGRES_USER"] == "admin"
    assert services["password"]["environment"]["PGUSER"] == "admin"
    assert services["postgres"]["depends_on"] == {"volume": {"condition": "service_completed_successfully"}}
    assert services["password"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_kafka_tells_clients_outside_the_guests_address_and_those_inside_its_name() -> None:
    this = lab(
        "{kafka: {port: 19092, heap_mib: 512, retention_hours: 24, retention_mib: 1, partitions: 3, auto_create_topics: true}}"
    )
    environment = rendered("kafka", this)["services"]["kafka"]["environment"]
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"OUTSIDE://{ADDRESS}:19092,INSIDE://kafka:29092"
    assert environment["KAFKA_HEAP_OPTS"] == "-Xms512m -Xmx512m"
    assert environment["KAFKA_LOG_RETENTION_HOURS"] == "24"
    assert environment["KAFKA_LOG_RETENTION_BYTES"] == "1048576"
    assert environment["KAFKA_NUM_PARTITIONS"] == "3"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "true"
    plain = rendered("kafka")["services"]["kafka"]["environment"]
    assert (plain["KAFKA_LOG_RETENTION_BYTES"], plain["KAFKA_AUTO_CREATE_TOPICS_ENABLE"]) == ("-1", "false")
    assert all(isinstance(value, str) for value in plain.values())


def test_mlflow_is_on_postgres_and_on_the_object_store() -> None:
    this = lab(
        '{postgres: {superuser: admin}, mlflow: {database: tracking, port: 5001, workers: 3, allowed_hosts: ["m.example.com:*"]}}'
    )
    services = rendered("mlflow", this)["services"]
    database, server = services["database"], services["mlflow"]
    assert database["image"] == this.service_image("postgres")
    assert (database["environment"]["PGUSER"], database["environment"]["DATABASE"]) == ("admin", "tracking")
    assert server["depends_on"] == {"database": {"condition": "service_completed_successfully"}}
    assert {
        "--serve-artifacts",
        "--artifacts-destination=s3://mlflow/artifacts",
        "--backend-store-uri=postgresql://tracking@postgres:5432/tracking",
        "--workers=3",
    } <= set(server["command"])
    environment = server["environment"]
    assert (environment["MLFLOW_S3_ENDPOINT_URL"], environment["AWS_DEFAULT_REGION"]) == (ENDPOINT, REGION)
    assert environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",") == [
        "localhost:*",
        "127.0.0.1:*",
        "mlflow:5000",
        f"{ADDRESS}:5001",
        "docker.lab.internal:5001",
        "m.example.com:*",
    ]


def test_mlflow_trusts_the_labs_authority_where_there_is_one() -> None:
    document = rendered("mlflow")
    server = document["services"]["mlflow"]
    assert server["configs"] == [{"source": "authority", "target": server["environment"]["AWS_CA_BUNDLE"]}]
    assert document["configs"]["authority"]["content"] == PEM
    before = rendered("mlflow", pem="")
    assert "AWS_CA_BUNDLE" not in before["services"]["mlflow"]["environment"]
    assert "authority" not in before["configs"]


@pytest.mark.parametrize(
    ("more", "setting", "reserved"),
    [("", "{}", False), (GPU, "{}", True), (GPU, "{gpu: false}", False), (GPU, "{gpu: true}", True)],
)
def test_ollama_has_the_gpu_of_its_guest(more: str, setting: str, *, reserved: bool) -> None:
    service = rendered("ollama", lab(f"{{ollama: {setting}}}", more))["services"]["ollama"]
    devices = [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    assert service.get("deploy") == ({"resources": {"reservations": {"devices": devices}}} if reserved else None)


def test_open_webui_has_an_administrator_from_the_start() -> None:
    def environment(setting: str) -> Any:
        return rendered("open_webui", lab(f"{{ollama: {{}}, open_webui: {setting}}}"))["services"]["open_webui"]["environment"]

    assert environment("{}")["WEBUI_ADMIN_EMAIL"] == "admin@lab.internal"
    assert environment("{admin_email: me@example.com}")["WEBUI_ADMIN_EMAIL"] == "me@example.com"
    assert environment("{}")["ENABLE_SIGNUP"] == "false"
    assert environment("{}")["OLLAMA_BASE_URL"] == "http://ollama:11434"
