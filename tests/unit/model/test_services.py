"""What `lab.yaml` may say of services."""

from __future__ import annotations

import json

import pytest

from labctl.model.contracts import check_outputs
from labctl.model.errors import AdapterError, UserError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.services import SERVICE_KINDS, Services

BOOTS = "name: lab\ntarget: {sandbox: {guests: container}}\n"
APPLIANCES = "name: lab\ntarget: {sandbox: {guests: appliance}}\n"
REAL = (
    "name: lab\ntarget: {proxmox: {endpoint: 'https://192.0.2.5:8006'}}\n"
    "operators: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0 a@example.com']\n"
)
DIGEST = "sha256:" + "0123456789abcdef" * 4


def lab(services: str, head: str = BOOTS) -> Lab:
    return parse_lab(f"{head}services: {services}\n")


def names(this: Lab) -> list[str]:
    return [spec.name for spec in this.service_specs()]


def test_every_service_is_known_after_what_it_needs_and_has_settings() -> None:
    seen: set[str] = set()
    for name, kind in SERVICE_KINDS.items():
        assert set(kind.needs) <= seen, name
        seen.add(name)
    assert set(Services.model_fields) == seen
    for name in seen:
        settings = getattr(lab("{postgres: , kafka: , mlflow: , ollama: , open_webui: , portainer: }").services, name)
        assert settings.kind is SERVICE_KINDS[name]


def test_without_the_block_or_with_nothing_on_there_is_no_layer() -> None:
    for this in (parse_lab(BOOTS), lab("{}"), lab("{kafka: {enabled: false}}")):
        assert (this.service_specs(), this.layers) == ((), ("foundation", "platform"))


def test_a_service_that_is_named_is_on_and_comes_after_what_it_needs() -> None:
    this = lab("{open_webui: , mlflow: {}, ollama: {}, postgres: {}, kafka: {enabled: false}}")
    assert names(this) == ["postgres", "mlflow", "ollama", "open_webui"]
    assert {spec.name: spec.needs for spec in this.service_specs() if spec.needs} == {
        "mlflow": ("postgres",),
        "open_webui": ("ollama",),
    }
    assert this.layers == ("foundation", "platform", "services")


def test_appliances_run_no_service() -> None:
    this = lab("{postgres: {}}", APPLIANCES)
    assert (names(this), this.layers) == ([], ("foundation", "platform"))
    assert names(lab("{postgres: {}}", "name: lab\ntarget: {sandbox: {}}\n").with_guests("container")) == ["postgres"]


def test_images_are_upstreams_on_a_real_host_and_the_sandboxs_own_on_it() -> None:
    everything = "{postgres: {}, kafka: {}, mlflow: {}, ollama: {}, open_webui: {}, portainer: {}}"
    for spec in lab(everything, REAL).service_specs():
        assert spec.image == spec.kind.upstream
        assert spec.kind.version in spec.image
    for spec in lab(everything).service_specs():
        assert spec.image == f"198.18.86.1:8088/lab/{spec.name}:{spec.kind.version}"


def test_the_sandbox_has_an_image_of_each_service_in_its_version() -> None:
    from labctl.sandbox.images.catalogue import IMAGES

    assert {name: IMAGES[name].version for name in SERVICE_KINDS} == {n: kind.version for n, kind in SERVICE_KINDS.items()}


@pytest.mark.parametrize(
    "image",
    ["postgres", "postgres:18", f"postgres@{DIGEST}", f"r.example.com:5000/a/b_c:18.4-x@{DIGEST}", "198.18.86.1:8088/lab/x:1"],
)
@pytest.mark.parametrize("head", [BOOTS, REAL])
def test_an_image_of_lab_yaml_counts_everywhere(head: str, image: str) -> None:
    this = lab(f'{{postgres: {{image: "{image}"}}}}', head)
    assert this.service_image("postgres") == this.service_specs()[0].image == image


@pytest.mark.parametrize(
    "image", ["", "a b", "Postgres", "postgres:", "postgres:18:1", "postgres@sha256:12", "x${Y}", "-x", "a//"]
)
def test_what_is_no_image_is_refused(image: str) -> None:
    with pytest.raises(UserError, match=r"services\.postgres\.image: .* is not an image: write registry/name:tag"):
        lab(f'{{postgres: {{image: "{image}"}}}}')


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ("{mlflow: {}}", "mlflow needs postgres, which is off: write `postgres: {}` here, or switch mlflow off"),
        ("{mlflow: {}, postgres: {enabled: false}}", "mlflow needs postgres, which is off"),
        ("{open_webui: {}}", "open_webui needs ollama, which is off"),
        ("{postgres: {}, kafka: {port: 5432}}", "port 5432 is used twice, by postgres and kafka"),
        ("{portainer: {port: 22}}", "port 22 is used twice, by SSH of guest docker and portainer"),
        ("{ollama: {gpu: true}}", "guest docker has no GPU"),
        ("{kafka: {heap_mib: 2048}}", "heap_mib 2048 does not fit in memory_mib 2048"),
        ("{postgres: {shared_buffers_mib: 4096}}", "shared_buffers_mib 4096 does not fit in memory_mib 2048"),
        ("{postgre: {}}", "unknown key 'services.postgre'"),
        ("{postgres: {prot: 1}}", "unknown key 'services.postgres.prot'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(services: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        lab(services)
    assert message in caught.value.message


def test_a_service_that_is_off_is_in_nobodys_way() -> None:
    assert names(lab("{postgres: {}, kafka: {port: 5432, enabled: false}}")) == ["postgres"]


def test_mlflow_without_its_bucket_is_refused() -> None:
    head = BOOTS + "foundation: {store: {buckets: [terraform, gitlab]}}\n"
    assert names(lab("{postgres: {}}", head)) == ["postgres"]
    with pytest.raises(UserError, match=r"services\.mlflow needs bucket 'mlflow': add it to foundation\.store\.buckets"):
        lab("{postgres: {}, mlflow: {}}", head)


@pytest.mark.parametrize("name", ['a"b', "a'; DROP", "A", "1a", "", "a" * 64, "$x"])
@pytest.mark.parametrize("setting", ["postgres: {superuser: %s}", "postgres: {}, mlflow: {database: %s}"])
def test_names_in_sql_need_no_quotes(setting: str, name: str) -> None:
    with pytest.raises(UserError):
        lab("{" + setting % json.dumps(name) + "}")


def test_the_contract_takes_what_a_service_is_reached_by() -> None:
    reached = {"address": "192.0.2.22:9092", "url": "", "inside": "kafka:29092", "network": "lab-kafka"}
    assert check_outputs("services", {"endpoints": {"kafka": reached}, "databases": {}})
    for wrong in ({"address": "http://192.0.2.22:9092"}, {"url": "192.0.2.22"}, {"inside": "kafka"}):
        with pytest.raises(AdapterError, match="endpoints"):
            check_outputs("services", {"endpoints": {"kafka": reached | wrong}, "databases": {}})
