"""`labctl sandbox reset`."""

from __future__ import annotations

from pathlib import Path

from labctl.engine.lab import open_lab
from labctl.engine.sandbox import reset_sandbox
from labctl.engine.status import read_status


def test_after_a_reset_the_lab_is_one_that_is_not_up(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("name: lab\ntarget: {sandbox: {guests: appliance}}\n")
    found = open_lab(tmp_path / "lab.yaml")
    found.paths.create()
    (found.paths.stacks / "foundation").mkdir()
    (found.paths.stacks / "foundation" / "cdk.tf.json").write_text("{}")
    entry = '{"synthesizedStackPath": "stacks/foundation/cdk.tf.json", "workingDirectory": "stacks/foundation"}'
    (found.paths.root / "manifest.json").write_text('{"stacks": {"foundation": ' + entry + "}}")
    assert read_status(found).layers == ()
    reset_sandbox(found)
    status = read_status(found)
    assert status.layers == ()
    assert status.problems == ("the sandbox is not running",)
