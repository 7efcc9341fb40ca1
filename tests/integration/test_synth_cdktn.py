"""The same stacks under `cdktn`, the fork that is still maintained, make the same JSON."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cdktn import python_with_cdktn

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import sys
from pathlib import Path
from labctl.model.labfile import parse_lab
from labctl.model.stackcontext import StackContext
from labctl.synth import synthesise

for variant in ("sandbox", "gpu", "dhcp"):
    lab = parse_lab(Path("tests/golden/stacks", variant, "lab.yaml").read_text())
    home = Path(sys.argv[1], variant)
    synthesise(StackContext(lab, "", home / "state", home))
print(*sorted({"cdktf", "cdktn"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def cdktn_python() -> Path:
    return python_with_cdktn()


def documents(python: Path, cdk: str, home: Path) -> dict[str, str]:
    env = os.environ | {"LABCTL_CDK": cdk, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    made = subprocess.run([python, "-c", PROGRAM, home], env=env, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert made.stdout.split() == [cdk]
    return {str(path.relative_to(home)): path.read_text() for path in sorted(home.rglob("cdk.tf.json"))}


def test_the_same_json_under_cdktn(cdktn_python: Path, tmp_path: Path) -> None:
    ours = documents(Path(sys.executable), "cdktf", tmp_path / "cdktf")
    assert len(ours) == 6
    assert documents(cdktn_python, "cdktn", tmp_path / "cdktn") == ours
