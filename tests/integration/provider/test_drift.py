"""What is done to a project behind Terraform's back: named by a plan, mended by an apply."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dockercompose import PREFIX, create_image, docker
from tests.integration.provider.conftest import CANARY, MOVING
from tests.ownprovider import Stack

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("provider")]


def _kill(stack: Stack, _path: Path) -> None:
    docker("kill", *stack.containers("idle"))


def _remove_the_network(stack: Stack, _path: Path) -> None:
    docker("network", "disconnect", f"{stack.name}_front", *stack.containers("web"))
    docker("network", "rm", f"{stack.name}_front")


def _change_the_environment(stack: Stack, path: Path) -> None:
    _compose(stack, path, stack.settings["compose"].replace("V: one", "V: two"), "--no-deps", "web")


def _scale(stack: Stack, path: Path) -> None:
    _compose(stack, path, stack.settings["compose"], "--no-recreate", "--scale", "idle=2", "idle")


def _exchange(stack: Stack, path: Path) -> None:
    docker("rm", "-f", *stack.containers("idle"))
    old = f"  old: {{image: '{MOVING}', command: [sleep, '900'], stop_signal: SIGKILL}}\nnetworks: {{front"
    _compose(stack, path, stack.settings["compose"].replace("networks: {front", old), "old")


def _compose(stack: Stack, path: Path, text: str, *words: str) -> None:
    command = [str(path / "docker-compose"), "-p", stack.name, "--project-directory", "/", "-f", "-", "up", "-d", *words]
    subprocess.run(command, input=text, env={**os.environ, "PASSWORD": CANARY}, check=True, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("meddle", "shown"),
    [
        pytest.param(_kill, ('"running" -> "exited"',), id="a container was killed"),
        pytest.param(_change_the_environment, ("~ config_hash",), id="an environment was changed"),
        pytest.param(_remove_the_network, (f'- "{PREFIX}-up_front"', '~ "web"'), id="a network was removed"),
        pytest.param(_scale, ("1 -> 2",), id="a service was scaled"),
        pytest.param(_exchange, ('- "idle"', '+ "old"'), id="a service was removed and another one added"),
    ],
)
def test_it_is_named_and_mended(
    web: Stack, compose_path: Path, meddle: Callable[[Stack, Path], None], shown: tuple[str, ...]
) -> None:
    meddle(web, compose_path)
    seen = web.drift()
    for text in shown:
        assert text in seen, seen
    said = web.apply()
    assert "will be updated in-place" in said
    assert "0 added, 1 changed, 0 destroyed" in said
    web.settled()
    assert len(web.containers()) == 2


def test_an_image_whose_tag_points_elsewhere_is_planned_and_deployed(web: Stack) -> None:
    before, other = web.containers("idle"), web.containers("web")
    first = docker("image", "inspect", "--format", "{{.Id}}", MOVING)
    create_image(MOVING, "another")
    planned = web.plan()
    assert "will be updated in-place" in planned
    assert f'~ image_id     = "{first}" -> "{docker("image", "inspect", "--format", "{{.Id}}", MOVING)}"' in planned
    web.apply_plan()
    web.settled()
    assert web.containers("idle") != before
    assert web.containers("web") == other
    docker("rmi", first)
