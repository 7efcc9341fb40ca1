"""Commands load only what they need: it is what keeps `labctl --help` under 150 ms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"pydantic", "rich", "boto3", "hvac", "proxmoxer", "requests", "cryptography", "cdktf", "jsii", "ruamel.yaml", "aiohttp"}
PROBE = """
import json, sys
from labctl.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)))
"""


def loaded(folder: Path, *args: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", PROBE, *args], cwd=folder, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("args", [("--help",), ("--version",)])
def test_the_first_help_loads_none_of_the_heavy_parts(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert loaded(tmp_path, *args) & HEAVY == set()


@pytest.mark.parametrize(
    "args", [("up", "--help"), ("secrets", "get", "--help"), ("provision", "kafka", "--help"), ("sandbox", "reset", "--help")]
)
def test_the_help_of_a_command_loads_no_client(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert loaded(tmp_path, *args) & HEAVY == set()


@pytest.mark.parametrize("command", ["plan", "up", "down"])
def test_a_project_that_is_no_lab_loads_nothing_of_a_lab(tmp_path: Path, command: str) -> None:
    (tmp_path / "cdktf.json").write_text('{"app": "mkdir -p cdktf.out && echo \'{\\"stacks\\": {}}\' > cdktf.out/manifest.json"}')
    found = loaded(tmp_path, command, "--app", ".", *(() if command == "plan" else ("--yes",)))
    assert "labctl.engine.apprun" in found, "it did not come that far"
    assert found & (HEAVY | {"labctl.model.lab", "labctl.engine.labrun", "zoneinfo", "importlib.metadata"}) == set()


def test_the_list_of_runs_needs_no_client(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("name: quiet\ntarget: {sandbox: {guests: appliance}}\n")
    assert loaded(tmp_path, "runs") & HEAVY <= {"pydantic", "ruamel.yaml"}


def test_the_status_of_a_lab_that_is_not_up_needs_no_client(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("name: quiet\ntarget: {sandbox: {guests: appliance}}\n")
    assert loaded(tmp_path, "status") & HEAVY <= {"pydantic", "ruamel.yaml"}
