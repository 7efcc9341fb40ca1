"""The plain CDKTF CLI works on the same stacks and states."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.labfolder import ROOT, LabFolder
from tests.e2e.npm import cdktf_cli, plain, with_tools


@pytest.fixture(scope="module")
def cdktf() -> Path:
    return cdktf_cli()


def test_diff_after_an_up_sees_nothing_to_change(deployed: LabFolder, cdktf: Path) -> None:
    shutil.copy(ROOT / "cdktf.json", deployed.path)
    command = ["env", "--", str(cdktf), "diff", "platform", "--skip-provider-lock"]
    done = deployed.run(*command, **with_tools() | {"CI": "true"})
    assert done.code == 0, done.out + done.err
    assert "No changes. Your infrastructure matches the configuration." in plain(done.out)
    deployed.write("platform: {docker: {memory_mib: 20480}}\n")
    try:
        done = deployed.run(*command, **with_tools() | {"CI": "true"})
        assert "1 to change" in plain(done.out), done.out + done.err
    finally:
        deployed.write("")
