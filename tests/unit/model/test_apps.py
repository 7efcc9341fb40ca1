"""What `lab.yaml` may say of apps."""

from __future__ import annotations

import pytest

from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab

LAB = "name: lab\ntarget: {sandbox: {guests: container}}\n"
SERVICES = "services: {postgres: {}, kafka: {}, mlflow: {}}\n"
MODEL = "models: [{name: houses}]"


def lab(apps: str, services: str = SERVICES, head: str = LAB) -> Lab:
    return parse_lab(f"{head}{services}apps: {apps}\n")


def test_without_the_block_there_is_no_layer() -> None:
    assert parse_lab(LAB + SERVICES).app_specs() == ()
    assert "apps" not in parse_lab(LAB + SERVICES).layers
    assert lab("{}").app_specs() == ()


def test_apps_come_after_those_that_they_need_with_everything_resolved() -> None:
    this = lab(f"{{web: {{}}, mlserver: {{{MODEL}, replicas: 2}}}}")
    assert this.layers == ("foundation", "platform", "services", "apps")
    mlserver, web = this.app_specs()
    assert (mlserver.name, mlserver.repository, mlserver.containers) == (
        "mlserver",
        "lab/apps/mlserver",
        ("mlserver", "mlserver-2"),
    )
    assert list(mlserver.settings.ports) == [8000, 8001]
    assert (web.name, web.containers, list(web.settings.ports)) == ("web", ("web",), [3000])
    assert web.network == "lab-web"


def test_what_an_app_is_built_on() -> None:
    def bases(this: Lab) -> list[dict[str, str]]:
        return [dict(spec.build_args) for spec in this.app_specs()]

    both = f"{{web: {{}}, mlserver: {{{MODEL}}}, package_index: http://index.example.com/simple}}"
    index = {"PACKAGE_INDEX": "http://index.example.com/simple"}
    own = [{"BASE_IMAGE": "198.18.86.1:8088/lab/python:3.13"} | index, {"BASE_IMAGE": "198.18.86.1:8088/lab/node:20"}]
    assert bases(lab(both)) == own
    real = (
        'name: lab\ntarget: {proxmox: {endpoint: "https://pve.example.com:8006"}}\n'
        'operators: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrVQvMM0n7EzVrMvD5oo3p5Ze7uW4Zx0j0b3z7b1s2Y ops"]\n'
    )
    assert bases(lab(both, head=real)) == [
        {"BASE_IMAGE": "python:3.13-slim-trixie"} | index,
        {"BASE_IMAGE": "node:22-trixie-slim"},
    ]
    pinned = "registry.example.com:5000/python:3.13@sha256:" + "a" * 64
    assert bases(lab(f'{{mlserver: {{{MODEL}, base_image: "{pinned}"}}}}')) == [{"BASE_IMAGE": pinned}]


def test_appliances_run_no_app() -> None:
    this = lab(f"{{mlserver: {{{MODEL}}}}}", head="name: lab\ntarget: {sandbox: {guests: appliance}}\n")
    assert this.app_specs() == ()
    assert this.layers == ("foundation", "platform")


def test_one_that_is_switched_off_is_not_there() -> None:
    assert lab(f"{{mlserver: {{{MODEL}, enabled: false}}}}", services="").app_specs() == ()


@pytest.mark.parametrize(
    ("apps", "services", "sentence"),
    [
        ("{mlserver: {}}", SERVICES, r"apps\.mlserver: name at least one model"),
        ("{mlserver: }", SERVICES, r"apps\.mlserver: name at least one model"),
        ("{mlserver: {models: []}}", SERVICES, r"apps\.mlserver\.models"),
        (
            "{mlserver: {models: [{name: a, weight: 0}]}}",
            SERVICES,
            r"models\.0\.weight: found 0, allowed: input should be greater than 0",
        ),
        ("{mlserver: {models: [{name: a, weight: -1}]}}", SERVICES, r"models\.0\.weight"),
        ("{mlserver: {models: [{name: a, weight: .nan}]}}", SERVICES, r"models\.0\.weight"),
        ("{mlserver: {models: [{name: a, weight: .inf}]}}", SERVICES, r"models\.0\.weight"),
        ("{mlserver: {models: [{name: a/b}]}}", SERVICES, r"models\.0\.name"),
        ("{mlserver: {models: [{name: a, alias: 'x y'}]}}", SERVICES, r"models\.0\.alias"),
        ("{mlserver: {models: [{name: a}, {name: a, weight: 2}]}}", SERVICES, r"a@production is listed 2 times"),
        (f"{{mlserver: {{{MODEL}, replicas: 0}}}}", SERVICES, r"apps\.mlserver\.replicas"),
        (f"{{mlserver: {{{MODEL}, base_image: 'Python:3'}}}}", SERVICES, r"'Python:3' is not an image"),
        (
            f"{{mlserver: {{{MODEL}}}}}",
            "services: {kafka: {}}\n",
            r"apps\.mlserver needs service mlflow, which is off: write `mlflow: {}`",
        ),
        (f"{{mlserver: {{{MODEL}}}}}", "services: {postgres: {}, mlflow: {}, kafka: {enabled: false}}\n", r"needs service kafka"),
        ("{web: {}}", SERVICES, r"apps\.web needs app mlserver, which is off: name it under apps, or switch web off"),
        (f"{{mlserver: {{{MODEL}, enabled: false}}, web: {{}}}}", SERVICES, r"apps\.web needs app mlserver"),
        (
            f"{{mlserver: {{{MODEL}, port: 5000}}}}",
            SERVICES,
            r"port 5000 is taken by service mlflow: give mlserver another `port`",
        ),
        (f"{{mlserver: {{{MODEL}, port: 22}}}}", SERVICES, r"port 22 is taken by SSH of guest docker"),
        (f"{{mlserver: {{{MODEL}, port: 9090, replicas: 3}}}}", SERVICES, r"port 9092 is taken by service kafka"),
        (
            f"{{mlserver: {{{MODEL}, replicas: 2}}, web: {{port: 8001}}}}",
            SERVICES,
            r"apps\.web: port 8001 is taken by app mlserver",
        ),
        (f"{{mlserver: {{{MODEL}, port: 65535, replicas: 2}}}}", SERVICES, r"2 replicas from port 65535 on end beyond 65535"),
        ("{project: mine}", SERVICES, r"apps\.project"),
        ("{project: Mine/Apps}", SERVICES, r"apps\.project"),
        ("{mlservr: {}}", SERVICES, r"unknown key 'apps\.mlservr'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(apps: str, services: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        lab(apps, services)
