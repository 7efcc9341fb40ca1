"""A sandbox with a hypervisor, and root's own way into it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from labctl.adapters.proxmox import Proxmox
from labctl.model.inventory import Release
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.privileges import setup_commands
from labctl.model.secret import Secret
from labctl.sandbox import supervisor
from labctl.sandbox.supervisor import SandboxConfig, SandboxInfo

ADDRESS = "127.86.79.1"
NINE = Release("9.0.10")


@dataclass
class Pve:
    """A running sandbox, and root's own way into it."""

    home: Path
    info: SandboxInfo
    http: requests.Session

    def call(self, method: str, where: str, /, **fields: object) -> Any:
        sent = {"params": fields} if method == "GET" else {"data": fields}
        response = self.http.request(method, f"{self.info.endpoint}/api2/json/{where}", timeout=20, **sent)
        assert response.ok, f"{method} {where}: {response.status_code} {response.reason} {response.text}"
        return response.json()["data"]

    def pveum(self, command: str) -> None:
        """Runs a command of the documentation, as its node would."""
        words = shlex.split(command.split(" || ", maxsplit=1)[0])
        options = {words[n]: words[n + 1] for n in range(len(words) - 1) if words[n].startswith("--")}
        if words[:3] == ["pveum", "role", "add"]:
            known = {role["roleid"] for role in self.call("GET", "access/roles")}
            if words[3] in known:
                self.call("PUT", f"access/roles/{words[3]}", privs=options["--privs"])
            else:
                self.call("POST", "access/roles", roleid=words[3], privs=options["--privs"])
        elif words[:3] == ["pveum", "acl", "modify"]:
            fields = {name: options[f"--{name}"] for name in ("users", "tokens", "roles")}
            self.call("PUT", "access/acl", path=words[3], **fields)
        else:
            raise AssertionError(f"unknown command: {command}")

    def token(self, user: str, *, privsep: int = 0) -> Secret:
        """A fresh user's fresh token."""
        self.call("POST", "access/users", userid=user)
        made = self.call("POST", f"access/users/{user}/token/labctl", privsep=privsep)
        return Secret(made["value"])

    def fault(self, **fields: object) -> None:
        supervisor.control(self.home, "POST", "faults", dict(fields))

    def guest(self, vmid: int, name: str, **fields: object) -> None:
        upid = self.call("POST", "nodes/pve/qemu", vmid=vmid, name=name, memory=512, agent="enabled=1", **fields)
        self.wait(str(upid))

    def wait(self, upid: str) -> None:
        client = self.client()
        client.wait_task(upid, timeout_s=20)
        client.close()

    def client(self, token_id: str = "", token: Secret | None = None) -> Proxmox:
        return Proxmox.connect(
            self.info.endpoint, token_id or self.info.token_id, token or self.info.token, self.info.ca_file, timeout_s=10
        )


@pytest.fixture(scope="module")
def pve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pve]:
    home = tmp_path_factory.mktemp("sandbox")
    config = SandboxConfig("pve", "vmbr0", ADDRESS, 8006, 8022, "127.86.79.0/24")
    info = supervisor.start(home, config)
    http = requests.Session()
    http.trust_env = False
    http.verify = str(info.ca_file)
    one = Pve(home, info, http)
    ticket = one.call("POST", "access/ticket", username="root@pam", password=info.root_password.reveal())
    http.cookies.set("PVEAuthCookie", ticket["ticket"])
    http.headers["CSRFPreventionToken"] = ticket["CSRFPreventionToken"]
    yield one
    http.close()
    supervisor.reset(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_faults_left(pve: Pve) -> Iterator[None]:
    yield
    supervisor.control(pve.home, "DELETE", "faults")


@pytest.fixture
def client(pve: Pve) -> Iterator[Proxmox]:
    with pve.client() as one:
        yield one


@pytest.fixture(scope="module")
def lab() -> Lab:
    return parse_lab("name: datalab\ntarget: {sandbox: {network: 127.86.79.0/24}}\nnetwork: {bridge: vmbr0}\n")


@pytest.fixture(scope="module")
def documented(pve: Pve, lab: Lab) -> tuple[str, Secret]:
    """A token with exactly what the documentation's commands give it."""
    token_id = "documented@pve!labctl"
    value = pve.token("documented@pve")
    for command in setup_commands(lab, NINE, token_id):
        pve.pveum(command)
    return token_id, value
