"""The stacks run by CDKTF's own CLI: what `cdktf.json` starts, without the CLI around it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "golden" / "stacks"


def run_app(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the `app` of cdktf.json by a shell, as the CLI does. The interpreter of this test stands in for the project's."""
    app = json.loads((REPOSITORY / "cdktf.json").read_text())["app"]
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    python = folder / ".venv" / "bin" / "python3"
    if not python.exists():
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    env = os.environ | {"PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"} | environment
    return subprocess.run(["/bin/sh", "-c", app], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(GOLDEN / "gpu" / "lab.yaml", tmp_path / "lab.yaml")
    return tmp_path


def test_it_makes_the_stacks_with_the_labs_states_and_authority(checkout: Path) -> None:
    keys = checkout / ".labctl" / "homelab" / "keys"
    keys.mkdir(parents=True)
    (keys / "authority.crt").write_text("-----BEGIN CERTIFICATE-----\nMIIBfake\n-----END CERTIFICATE-----\n")
    ended = run_app(checkout, CDKTF_OUTDIR="made/here")
    assert (ended.returncode, ended.stderr) == (0, "")
    out = checkout / "made" / "here"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["stacks"]["platform"]["dependencies"] == ["foundation"]
    made = {name: json.loads((out / entry["synthesizedStackPath"]).read_text()) for name, entry in manifest["stacks"].items()}
    state = made["foundation"]["terraform"]["backend"]["local"]["path"]
    assert (out / "stacks" / "foundation" / state).resolve() == checkout / ".labctl" / "homelab" / "state" / "foundation.tfstate"
    for document in made.values():
        for vm in document["resource"]["proxmox_virtual_environment_vm"].values():
            assert vm["lifecycle"]["prevent_destroy"] is True
        for snippet in document["resource"]["proxmox_virtual_environment_file"].values():
            assert "MIIBfake" in snippet["source_raw"]["data"]


def test_the_lab_file_can_be_named(checkout: Path) -> None:
    (checkout / "lab.yaml").rename(checkout / "other.yaml")
    assert run_app(checkout, LABCTL_LAB=str(checkout / "other.yaml")).returncode == 0
    assert (checkout / "cdktf.out" / "stacks" / "platform" / "cdk.tf.json").is_file()


def test_a_fault_in_the_lab_is_one_sentence(checkout: Path) -> None:
    ended = run_app(checkout, LABCTL_LAB="nowhere.yaml")
    assert ended.returncode == 1
    assert ended.stderr == "nowhere.yaml: cannot be read: No such file or directory\nLABCTL_LAB names the lab file.\n"
    (checkout / "lab.yaml").write_text("name: x\ntarget: {sandbox: {guests: appliance}}\nfondation: {}\n")
    ended = run_app(checkout)
    assert ended.returncode == 1
    assert ended.stderr.startswith("lab.yaml:3: unknown key 'fondation'\n")
    assert "Did you mean 'foundation'?" in ended.stderr
