"""The lab whose guests boot and which has every service: one for all files that use it, because it takes a while."""

from __future__ import annotations

import time
from typing import Any

import docker
import requests
from gitlab import Gitlab

from tests.e2e.labfolder import LabFolder, Result
from tests.needs import lacking

BOOTED = "booted"
"""The group of tests that share it: one process runs them, in order."""

GUESTS = ("vault", "store", "gitlab", "docker")
VMIDS = {"store": 101, "vault": 102, "gitlab": 201, "docker": 202}
LAB = """
services: {postgres: {}, kafka: {}, mlflow: {}, ollama: {}, open_webui: {}, portainer: {}}
apps:
  mlserver:
    poll_s: 1
    replicas: 2
    models:
      - {name: houses, alias: production, weight: 3}
      - {name: houses, alias: canary, weight: 1}
  web: {}
"""


def engine() -> docker.DockerClient:
    """The Docker engine of this machine."""
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        lacking(f"no Docker engine answers: {error}")
    return client


class Booted:
    """A lab whose guests boot."""

    def __init__(self, lab: LabFolder) -> None:
        self.lab = lab
        self.client = engine()

    @property
    def pve(self) -> Any:
        return self.lab.hypervisor().nodes("pve")

    def inside(self, guest: str, command: str, timeout_s: float = 120) -> Result:
        """Runs a shell command as root in a guest, through its agent."""
        agent = self.pve.qemu(VMIDS[guest]).agent
        pid = agent.exec.post(command=["sh", "-c", command])["pid"]
        limit = time.monotonic() + timeout_s
        while not (state := agent("exec-status").get(pid=pid))["exited"]:
            assert time.monotonic() < limit, f"{command} in {guest} does not end"
            time.sleep(0.2)
        return Result(state["exitcode"], state.get("out-data", ""), state.get("err-data", ""))

    def said(self, guest: str, command: str, timeout_s: float = 120) -> str:
        """As `inside`, and it must succeed; what it printed."""
        done = self.inside(guest, command, timeout_s)
        assert done.code == 0, f"{command} in {guest}: {done}"
        return done.out

    @property
    def gitlab(self) -> Gitlab:
        """The lab's GitLab, as its administrator."""
        address = self.lab.json("output", "platform")["guests"]["gitlab"]["address"]
        session = requests.Session()
        session.trust_env = False
        token = self.lab.json("secrets", "get", "gitlab/root")["data"]["api_token"]
        return Gitlab(f"http://{address}", private_token=token, session=session, keep_base_url=True)

    def containers(self) -> list[Any]:
        """The containers of this lab's guests."""
        home = str((self.lab.work / "sandbox").resolve())
        return self.client.containers.list(all=True, filters={"label": f"labctl.home={home}"})
