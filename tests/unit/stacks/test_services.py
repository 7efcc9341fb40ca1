"""Layer services: one Compose project a service, by labctl's own provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from labctl.model.lab import Lab
from labctl.model.stackcontext import StackContext
from labctl.synth import synthesise

Documents = dict[str, Any]
ADDRESS = "${data.terraform_remote_state.platform.outputs.guests.docker.address}"


def projects(document: Any) -> dict[str, Any]:
    return dict(document["resource"]["labctl_compose_project"])


def test_the_layer_comes_last_and_knows_no_hypervisor(
    lab: Callable[..., Lab], context: Callable[..., StackContext], documents: Callable[..., Documents]
) -> None:
    stacks = synthesise(context(lab("services"))).stacks
    assert [(stack.name, stack.layer, stack.dependencies) for stack in stacks][2:] == [
        ("services", "services", ("foundation", "platform"))
    ]
    document = documents(lab("services"))["services"]
    assert document["provider"] == {"labctl": [{"docker_host": "${data.terraform_remote_state.platform.outputs.docker_host}"}]}
    assert document["terraform"]["required_providers"] == {"labctl": {"source": "labctl.internal/lab/labctl", "version": "0.1.0"}}
    assert document["terraform"]["backend"]["s3"]["key"] == "state/services/terraform.tfstate"
    assert set(document["resource"]) == {"labctl_compose_project"}


def test_projects_wait_for_what_they_need(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    found = projects(documents(lab("services"))["services"])
    assert {name: project.get("depends_on", []) for name, project in found.items()} == {
        "postgres": [],
        "kafka": [],
        "mlflow": ["labctl_compose_project.postgres"],
        "ollama": [],
        "open_webui": ["labctl_compose_project.ollama"],
        "portainer": [],
    }


def test_secrets_are_named_by_where_they_lie(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    found = projects(documents(lab("services"))["services"])
    assert "secrets" not in found["kafka"]
    assert found["postgres"]["secrets"] == {"POSTGRES_PASSWORD": "services/postgres#password"}
    for project in found.values():
        for source in project.get("secrets", {}).values():
            path, _, field = source.partition("#")
            assert path
            assert field


def test_the_guests_address_stays_a_reference_in_the_compose_file(
    lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    document = documents(lab("services"), authority_pem="-----BEGIN CERTIFICATE-----\n")["services"]
    found = projects(document)
    assert f"OUTSIDE://{ADDRESS}:19092,INSIDE" in found["kafka"]["compose"]
    assert '"${data.terraform_remote_state.foundation.outputs.s3_endpoint}"' in found["mlflow"]["compose"]
    assert "-----BEGIN CERTIFICATE-----" in found["mlflow"]["compose"]
    assert document["output"]["endpoints"]["value"]["mlflow"] == {
        "address": f"{ADDRESS}:5001",
        "url": f"http://{ADDRESS}:5001",
        "inside": "mlflow:5000",
        "network": "lab-mlflow",
    }
    assert "TfToken" not in json.dumps(document)


def test_the_firewall_lets_in_what_is_on_and_nothing_else(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    def ports(this: Lab) -> list[str]:
        rules = documents(this)["platform"]["resource"]["proxmox_virtual_environment_firewall_rules"]["docker"]["rule"]
        return [rule["dport"] for rule in rules]

    assert ports(lab("services")) == ["22", "5432", "19092", "5001", "11434", "8080", "9080"]
    assert ports(lab("services", ("portainer:\n", "portainer:\n    enabled: false\n"))) == [
        *("22", "5432", "19092", "5001", "11434", "8080")
    ]


def test_appliances_have_no_such_layer(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    assert set(documents(lab("services", ("guests: container", "guests: appliance")))) == {"foundation", "platform"}


def test_services_can_be_destroyed_by_the_plain_cli(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    made = documents(lab("services"), prevent_destroy=True)
    assert made["services"] == documents(lab("services"))["services"]
