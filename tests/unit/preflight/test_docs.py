"""docs/proxmox.md says what the code needs: the same rights, the same commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.model.inventory import Release
from labctl.model.labfile import parse_lab
from labctl.model.privileges import REQUIRED_PRIVILEGES, setup_commands

ROOT = Path(__file__).parents[3]
ROW = re.compile(
    r"^\| `(?P<role>Labctl\w+)` \| `(?P<path>/[^`]*)` \| `(?P<privilege>[A-Za-z.]+)` \| (?P<purpose>[^|]+) \|", re.MULTILINE
)


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "docs" / "proxmox.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example():
    return parse_lab((ROOT / "examples" / "proxmox.yaml").read_text(encoding="utf-8"))


def shell_lines(text: str) -> set[str]:
    return {line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()}


def test_the_table_is_the_constant(text):
    rows = [(found["role"], found["path"], found["privilege"]) for found in ROW.finditer(text)]
    assert rows == [(one.role, one.grant_at, one.privilege) for one in REQUIRED_PRIVILEGES]
    for found, one in zip(ROW.finditer(text), REQUIRED_PRIVILEGES, strict=True):
        assert found["purpose"].startswith(one.purpose)
        assert ("GPU" in found["purpose"]) >= one.gpu


def test_the_commands_are_those_for_the_example(text, example):
    commands = set(setup_commands(example, Release("9.0.0"), "labctl@pve!labctl"))
    assert len(commands) > 10
    written = {line for line in shell_lines(text) if line.startswith(("pveum role", "pveum acl"))}
    assert written == commands


def test_the_content_types_that_it_sets_are_enough(text, example):
    (line,) = (line for line in shell_lines(text) if line.startswith("pvesm set"))
    store, _, contents = line.removeprefix("pvesm set ").partition(" --content ")
    assert store == example.datastores.snippets == example.datastores.images
    assert {"snippets", "import"} <= set(contents.split(","))


def test_the_last_lines_are_the_gpu_s(text, example):
    without = example.model_copy(
        update={
            "platform": example.platform.model_copy(update={"docker": example.platform.docker.model_copy(update={"gpu": None})})
        }
    )
    release = Release("9.0.0")
    all_commands, fewer = (setup_commands(lab, release, "labctl@pve!labctl") for lab in (example, without))
    assert all_commands[: len(fewer)] == fewer
    assert len(all_commands) - len(fewer) == 2


def test_its_example_names_what_the_example_file_says(text, example):
    assert example.target.proxmox is not None
    assert f"endpoint: {example.target.proxmox.endpoint}" in text
    assert f"ca_file: {example.target.proxmox.ca_file}" in text
    assert "as the user `target.proxmox.ssh.username`" in text
    assert f"Match User {example.target.proxmox.ssh.username}" in text
