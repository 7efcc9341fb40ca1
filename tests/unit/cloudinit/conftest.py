"""The labs that documents are made for, the documents, and a scratch folder to run their scripts in."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.cloudinit import UserDataRequest, user_data
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab

OPERATOR = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKx0hVq0ZVv7sQ5sXUoOe2a1gJ7l6mS2m8iXcY1bQ2nE operator@example.com"
VAULT_TOKEN = "${TfToken[TOKEN.7]}"
STORE_TOKEN = "${TfToken[TOKEN.8]}"

SANDBOX = "name: datalab\ntarget: {sandbox: {}}\n"
PROXMOX = f"""
name: home
target: {{proxmox: {{endpoint: "https://pve.example.com:8006"}}}}
operators: ["{OPERATOR}"]
network: {{domain: lab.example.com, cidr: 192.0.2.0/24, gateway: 192.0.2.1}}
platform:
  gitlab: {{external_url: "http://gitlab.example.com", registry_port: 5051, time_zone: Europe/Berlin,
            package_repository: "https://mirror.example.com/gitlab", runner: {{concurrent: 8, image: "debian:trixie"}}}}
  docker:
    address: 192.0.2.22/24
    gpu: {{vga_path: "0000:01:00.0", vga_id: "10de:2684", vga_subsystem_id: "10de:147d", vga_iommu_group: 12,
           audio_path: "0000:01:00.1", audio_id: "10de:22ba", audio_subsystem_id: "10de:147d", audio_iommu_group: 12}}
"""


def _request(lab: Lab, guest: str, endpoint: str, vault: str) -> UserDataRequest:
    return UserDataRequest(
        lab=lab,
        guest=lab.guest(guest),
        authority_pem=(Path(__file__).parent / "authority.pem").read_text(),
        ssh_keys=(OPERATOR,),
        vault_address=vault,
        s3_endpoint=endpoint,
        s3_region="eu-west-1",
        hosts={spec.fqdn: spec.ip for spec in lab.guests() if spec.ip},
    )


@pytest.fixture(scope="session")
def requests() -> dict[str, UserDataRequest]:
    """Name of the golden file to what it is made from."""
    sandbox, proxmox = parse_lab(SANDBOX), parse_lab(PROXMOX)
    store, vault = "https://store.lab.internal:9000", "https://vault.lab.internal:8200"
    cases = {name: _request(sandbox, name, store, vault) for name in ("vault", "store", "gitlab", "docker")}
    sources = parse_lab(
        SANDBOX + 'platform: {docker: {package_source: distribution}, gitlab: {package_repository: "http://192.0.2.1:8088"}}\n'
    )
    cases["docker-distribution"] = _request(sources, "docker", store, vault)
    cases["gitlab-distribution"] = _request(sources, "gitlab", store, vault)
    cases["docker-gpu"] = _request(proxmox, "docker", STORE_TOKEN, VAULT_TOKEN)
    cases["gitlab-dhcp"] = _request(proxmox, "gitlab", STORE_TOKEN, VAULT_TOKEN)
    return cases


@pytest.fixture(scope="session")
def documents(requests: dict[str, UserDataRequest]) -> dict[str, str]:
    return {name: user_data(request) for name, request in requests.items()}


@dataclass
class Guest:
    """A scratch folder that stands for a guest."""

    root: Path
    scripts: dict[str, str]

    def fake(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        path.write_text(body if body.startswith("#!") else f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def write(self, path: str, text: str) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def command(self, name: str, *arguments: str, **variables: str) -> tuple[list[str], dict[str, str]]:
        text = re.sub(r"(?<![\w.$])/(etc|run|var|usr/local)/", rf"{self.root}/\1/", self.scripts[name])
        script = self.write(f"scripts/{name}", text)
        environment = {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "FAKE": str(self.root), "LC_ALL": "C.UTF-8", **variables}
        return ["bash", str(script), *arguments], environment

    def run(self, name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command, environment = self.command(name, *arguments, **variables)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def calls(self) -> list[dict[str, Any]]:
        log = self.root / "calls"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def guest(tmp_path: Path, documents: dict[str, str]) -> Guest:
    scripts = {
        file["path"].rsplit("/", 1)[-1]: file["content"]
        for text in documents.values()
        for file in yaml.safe_load(text)["write_files"]
        if file["permissions"] == "0755"
    }
    (tmp_path / "bin").mkdir()
    for folder in ("run/lab", "etc/gitlab", "etc/apt/sources.list.d", "var/lib"):
        (tmp_path / folder).mkdir(parents=True)
    return Guest(tmp_path, scripts)
