"""The plain CDKTF CLI works on the same stacks and states."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.labfolder import ROOT, LabFolder

CLI = ROOT / ".cache" / "cdktf-cli-0.21"
TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def cdktf() -> Path:
    """The CLI from npm, kept between runs."""
    program = CLI / "node_modules" / ".bin" / "cdktf"
    CLI.mkdir(parents=True, exist_ok=True)
    with (CLI / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CLI / "complete").exists():
            command = [str(TOOLS / "npm"), "install", "--no-fund", "--no-audit", "--loglevel=error", "cdktf-cli@0.21.0"]
            done = subprocess.run(command, cwd=CLI, env=_path(), capture_output=True, text=True, check=False)
            if done.returncode != 0 and os.environ.get("CI") != "true":
                pytest.skip(f"npm cannot install cdktf-cli here: {done.stderr[-300:]}")
            assert done.returncode == 0, done.stderr
            (CLI / "complete").touch()
    return program


def _path() -> dict[str, str]:
    return os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}


def plain(text: str) -> str:
    """The text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_diff_after_an_up_sees_nothing_to_change(deployed: LabFolder, cdktf: Path) -> None:
    shutil.copy(ROOT / "cdktf.json", deployed.path)
    command = ["env", "--", str(cdktf), "diff", "platform", "--skip-provider-lock"]
    done = deployed.run(*command, **_path() | {"CI": "true"})
    assert done.code == 0, done.out + done.err
    assert "No changes. Your infrastructure matches the configuration." in plain(done.out)
    deployed.write("platform: {docker: {memory_mib: 20480}}\n")
    try:
        done = deployed.run(*command, **_path() | {"CI": "true"})
        assert "1 to change" in plain(done.out), done.out + done.err
    finally:
        deployed.write("")
