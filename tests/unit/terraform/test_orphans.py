"""Providers that outlived their Terraform, with shell scripts in the place of both."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.adapters.terraform.orphans import end_orphans
from labctl.adapters.terraform.process import Child

PROVIDER = "terraform-provider-proxmox_v0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stack's folder with a Terraform that starts its provider, says its pid and waits for it."""
    found = tmp_path / "stacks" / "platform"
    found.mkdir(parents=True)
    (found / PROVIDER).symlink_to("/bin/sleep")
    (found / "terraform").write_text(f"#!/bin/sh\n./{PROVIDER} 60 &\necho $! > pid.new; mv pid.new pid\nwait\n")
    (found / "terraform").chmod(0o755)
    return found


@pytest.fixture
def terraform(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([str(folder / "terraform")], cwd=folder, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def provider(folder: Path) -> int:
    limit = time.monotonic() + 10
    while not (folder / "pid").exists():
        assert time.monotonic() < limit
        time.sleep(0.01)
    return int((folder / "pid").read_text())


def test_a_provider_whose_terraform_was_killed_is_ended(folder: Path, terraform: subprocess.Popen[bytes], tmp_path: Path) -> None:
    pid = provider(folder)
    assert end_orphans(tmp_path) == (), "its Terraform works"
    terraform.kill()
    terraform.wait()
    assert end_orphans(tmp_path / "other") == ()
    assert end_orphans(tmp_path) == (pid,)
    assert end_orphans(tmp_path) == ()


def test_one_whose_folder_was_removed_is_ended_too(folder: Path, terraform: subprocess.Popen[bytes], tmp_path: Path) -> None:
    pid = provider(folder)
    terraform.kill()
    terraform.wait()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert end_orphans(tmp_path) == (pid,)


def test_nothing_else_is_touched(folder: Path, terraform: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"], cwd=folder) as other:
        assert end_orphans(tmp_path) == ()
        other.kill()


def test_a_child_that_is_killed_takes_its_provider_along(folder: Path) -> None:
    child = Child([str(folder / "terraform")], cwd=folder, env={"PATH": os.defpath})
    pid = provider(folder)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait().exit_code == -signal.SIGKILL
    limit = time.monotonic() + 10
    while Path(f"/proc/{pid}/cwd").exists():
        assert time.monotonic() < limit, "the provider is still there"
        time.sleep(0.01)
