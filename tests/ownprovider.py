"""Projects of labctl's own provider, for the real Terraform: a folder with a configuration, and what Terraform says to it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.terraform import RunningProvider, own_provider
from labctl.model.ownprovider import OWN_PROVIDER, OWN_PROVIDER_VERSION
from tests.dockercompose import IMAGE, PREFIX, clear, containers, docker, project_names
from tests.needs import needed
from tests.waiting import until

ROOT = Path(__file__).parents[1]
TYPE = "labctl_compose_project"
ADDRESS = f"{TYPE}.this"

IDLE = f"""\
services:
  idle:
    image: {IMAGE}
    command: [sleep, "900"]
    stop_signal: SIGKILL
    network_mode: none
    environment: {{V: one}}
"""
SLOW = IDLE.replace(
    "    environment", "    healthcheck: {test: [CMD, test, -e, /tmp/go], interval: 0.3s, retries: 999}\n    environment"
)
"""Healthy when `taken_up` says so."""


class Stack:
    """A folder in which the real Terraform runs.

    Attributes:
        folder: It.
        environment: Terraform's.
        name: The Compose project's name.
        settings: Of the project, as they were written last.
        at_rest: Whether the last thing that was seen is that there is nothing to do.
    """

    def __init__(self, folder: Path, name: str, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.folder, self.name, self.environment = folder, f"{PREFIX}-{name}", dict(environment)
        self.settings: dict[str, Any] = {}
        self.at_rest = False
        self._program = needed("terraform", "terraform (from HashiCorp)")

    def write(
        self, text: str, *, docker_host: str = "", resources: Mapping[str, Mapping[str, Any]] | None = None, **settings: Any
    ) -> None:
        """The configuration: one project, and what else is given by type and name."""
        settings = {"name": self.name, "compose": text, "wait_timeout": 30, **settings}
        if settings != self.settings:
            self.settings, self.at_rest = settings, False
        document = {
            "terraform": {"required_providers": {"labctl": {"source": OWN_PROVIDER, "version": OWN_PROVIDER_VERSION}}},
            "provider": {"labctl": {"docker_host": docker_host} if docker_host else {}},
            "resource": {TYPE: {"this": settings}},
        }
        for kind, named in (resources or {}).items():
            document["resource"].setdefault(kind, {}).update(named)
        (self.folder / "main.tf.json").write_text(json.dumps(document, indent=1))

    def begin(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Terraform, in a session of its own; a variable that is "" is taken away from it."""
        self.at_rest = False
        return subprocess.Popen(
            [self._program, words[0], "-no-color", *words[1:]],
            cwd=self.folder,
            env={name: value for name, value in {**self.environment, **more}.items() if value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, code: int = 0, **more: str) -> str:
        """What it says."""
        process = self.begin(*words, **more)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, said
        return said

    def refused(self, *words: str, **more: str) -> str:
        """What it says as it fails, on one line: Terraform frames and wraps what a provider says."""
        return one_line(self.run(*words, code=1, **more))

    def plan(self, *words: str, **more: str) -> str:
        """A plan with changes, which `apply_plan` makes."""
        return self.run("plan", "-detailed-exitcode", "-out=plan", *words, code=2, **more)

    def apply_plan(self, **more: str) -> str:
        return self.run("apply", "plan", **more)

    def apply(self, **more: str) -> str:
        return self.run("apply", "-auto-approve", **more)

    def fails(self, **more: str) -> str:
        """What an apply says as it fails."""
        return self.refused("apply", "-auto-approve", **more)

    def destroy(self, *words: str) -> str:
        return self.run("destroy", "-auto-approve", *words)

    def drift(self) -> str:
        """What changed outside of Terraform."""
        return self.run("plan", "-refresh-only", "-detailed-exitcode", code=2)

    def settled(self) -> None:
        """There is nothing to do."""
        assert "No changes" in self.run("plan", "-detailed-exitcode")
        self.at_rest = True

    def state(self, kind: str = TYPE) -> dict[str, Any] | None:
        """The attributes of the one resource of that type, None where there is none."""
        file = self.folder / "terraform.tfstate"
        # A Terraform that was killed leaves an empty file.
        text = file.read_text() if file.is_file() else ""
        resources = json.loads(text)["resources"] if text else []
        return next((one["instances"][0]["attributes"] for one in resources if one["type"] == kind), None)

    def containers(self, service: str = "") -> list[str]:
        return containers(self.name, service)

    def volumes(self) -> list[str]:
        return project_names("volume", self.name)

    def networks(self) -> list[str]:
        return project_names("network", self.name)

    def in_container(self, service: str, *words: str) -> str:
        return docker("exec", f"{self.name}-{service}-1", *words)

    def clear(self) -> None:
        """Takes away what is on the engine."""
        clear(self.name)


def run_provider(environment: Mapping[str, str]) -> RunningProvider:
    """One that has less patience than in a lab."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_provider, "_MODULE", "tests.quickprovider")
        return RunningProvider({**environment, "PYTHONPATH": str(ROOT)})


def one_line(said: str) -> str:
    return " ".join(said.replace("│", " ").replace("╷", " ").replace("╵", " ").split())


def begun(stack: Stack) -> subprocess.Popen[str]:
    """An apply that waits for its container to be healthy."""
    process = stack.begin("apply", "-auto-approve")
    running = ("ps", "-q", "--filter", "status=running", "--filter", f"label=com.docker.compose.project={stack.name}")
    until(lambda: docker(*running))
    time.sleep(0.3)
    return process


def taken_up(stack: Stack) -> None:
    """The next apply finishes what the last one began."""
    left = stack.containers("idle")
    assert len(left) == 1
    stack.in_container("idle", "touch", "/tmp/go")
    assert "1 added, 0 changed, 0 destroyed" in stack.apply()
    assert stack.containers("idle") == left
