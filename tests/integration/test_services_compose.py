"""The services' Compose files, read by the Docker Compose that guests have."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from labctl.model.labfile import parse_lab
from labctl.model.services import SERVICE_KINDS
from labctl.services import ServiceRequest, compose_text
from tests.dockercompose import plugin

pytestmark = pytest.mark.integration

LAB = parse_lab(
    "name: lab\ntarget: {sandbox: {guests: container}}\n"
    "services: {postgres: {}, kafka: {}, mlflow: {}, ollama: {}, open_webui: {}, portainer: {}}\n"
)
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CANARY = "canary$word${x}"


def config(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    spec = {spec.name: spec for spec in LAB.service_specs()}[name]
    text = compose_text(ServiceRequest(LAB, spec, "198.18.86.202", "https://198.18.86.101:9000", "eu-west-1", PEM))
    program = str(plugin() / "docker-compose")
    command = [program, "--project-directory", "/nonexistent", "--file", "-", "config", *arguments]
    secrets = dict.fromkeys(spec.kind.secrets, CANARY)
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin", **secrets}
    )


@pytest.mark.parametrize("name", SERVICE_KINDS)
def test_compose_takes_it_without_a_warning(name: str) -> None:
    done = config(name, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["name"] == name
    # Nobody who may look at the configuration sees a value.
    assert "canary" not in done.stdout


@pytest.mark.parametrize("name", SERVICE_KINDS)
def test_each_of_its_services_has_a_hash_by_which_drift_is_seen(name: str) -> None:
    done = config(name, "--hash", "*")
    assert (done.returncode, done.stderr) == (0, "")
    hashes = dict(line.split() for line in done.stdout.splitlines())
    assert name in hashes
    assert all(len(value) == 64 for value in hashes.values())


def test_scripts_reach_their_shell_with_their_dollars() -> None:
    """`config` writes a dollar of the file's as two again, so that its output is a Compose file too."""
    server = json.loads(config("mlflow", "--format", "json").stdout)["services"]["mlflow"]
    script = server["entrypoint"][2].replace("$$", "$")
    assert 'exec mlflow server "$@"' in script
    assert "password=$(sed " in script
    checked = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, timeout=10, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
