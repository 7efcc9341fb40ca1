"""CDKTF projects of a given shape, without node: the `app` is a small script that writes what CDKTF would write.

A project has `cdktf.json`, `main.py` and `shape.json`. `main.py` needs the standard library only. It writes `manifest.json`, and
for each stack a `cdk.tf.json` with a local backend (`terraform.<stack>.tfstate` in the project's folder, by absolute path), a
remote state for each stack that it reads, and a sensitive output for the value that crosses.
"""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

OUTDIR = "cdktf.out"


@dataclass(frozen=True)
class Shape:
    """A project: its stacks by rank, each of which reads an output of `reads` stacks of the rank before.

    Attributes:
        title: What it is, in words.
        ranks: Names of the stacks, those that need nothing first.
        resources: How many `terraform_data` each stack has.
        reads: How many stacks of the rank before each stack reads; 0 for independent ones.
    """

    title: str
    ranks: tuple[tuple[str, ...], ...]
    resources: int
    reads: int = 0

    @property
    def stacks(self) -> tuple[str, ...]:
        """All stacks, each after those that it reads."""
        return tuple(name for rank in self.ranks for name in rank)


WORKLOADS = {
    "a": Shape("four stacks in a line, outputs passed", tuple((f"line{i}",) for i in range(4)), resources=12, reads=1),
    "b": Shape("50 independent stacks", (tuple(f"free{i:02}" for i in range(50)),), resources=12),
    "c": Shape(
        "50 stacks in five ranks of ten, outputs passed",
        tuple(tuple(f"rank{rank}n{i}" for i in range(10)) for rank in range(5)),
        resources=12,
        reads=2,
    ),
    "d": Shape("one stack of 5,000 resources", (("big",),), resources=5000),
}

APP = '''"""Writes what `App.synth()` of CDKTF writes."""
import json
import os
from pathlib import Path

SHAPE = json.loads(Path("shape.json").read_text())
OUT = Path(os.environ["CDKTF_OUTDIR"])
HERE = Path.cwd()


def state(stack):
    return str(HERE / f"terraform.{stack}.tfstate")


def output(stack):
    return f"cross-stack-output-terraform_data{stack}item-0output"


def document(stack, reads):
    inputs = {
        f"cross-stack-reference-input-{name}": {
            "backend": "local",
            "config": {"path": state(name)},
            "workspace": "${terraform.workspace}",
        }
        for name in reads
    }
    read = "-".join(f"${{data.terraform_remote_state.cross-stack-reference-input-{n}.outputs.{output(n)}}}" for n in reads)
    found = {
        "//": {"metadata": {"backend": "local", "stackName": stack, "version": "0.21.0"}, "outputs": {}},
        "resource": {"terraform_data": {f"item-{i}": {"input": f"{stack}-{i}-{read}"} for i in range(SHAPE["resources"])}},
        "output": {output(stack): {"sensitive": True, "value": "${terraform_data.item-0.input}"}},
        "terraform": {"backend": {"local": {"path": state(stack)}}},
    }
    return found | ({"data": {"terraform_remote_state": inputs}} if inputs else {})


stacks = {}
before = []
for rank in SHAPE["ranks"]:
    for place, stack in enumerate(rank):
        reads = [before[(place + i) % len(before)] for i in range(min(SHAPE["reads"], len(before)))]
        folder = OUT / "stacks" / stack
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cdk.tf.json").write_text(json.dumps(document(stack, reads), indent=2))
        stacks[stack] = {
            "annotations": [],
            "constructPath": stack,
            "dependencies": sorted(reads),
            "name": stack,
            "synthesizedStackPath": f"stacks/{stack}/cdk.tf.json",
            "workingDirectory": f"stacks/{stack}",
        }
    before = rank
(OUT / "manifest.json").write_text(json.dumps({"version": "0.21.0", "stacks": stacks}, indent=2))
'''


def write_project(shape: Shape, folder: Path, python: str = sys.executable) -> None:
    """Writes the project into the folder; nothing is synthesised yet."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"language": "python", "app": f"{python} -I main.py", "output": OUTDIR, "sendCrashReports": "false"}
    (folder / "cdktf.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "shape.json").write_text(json.dumps(asdict(shape)))
    (folder / "main.py").write_text(APP)


def write_states(shape: Shape, folder: Path) -> None:
    """Writes the states that an apply of a project of independent stacks would leave.

    The local backend rewrites its whole state after each resource: an apply of 5,000 of them takes ten minutes, of which labctl
    has no part.
    """
    for stack in shape.stacks:
        values = [{"value": f"{stack}-{i}-", "type": "string"} for i in range(shape.resources)]
        state = {
            "version": 4,
            "terraform_version": "1.5.0",
            "serial": shape.resources + 1,
            "lineage": str(uuid.uuid5(uuid.NAMESPACE_URL, stack)),
            "outputs": {
                f"cross-stack-output-terraform_data{stack}item-0output": {**values[0], "sensitive": True},
            },
            "resources": [
                {
                    "mode": "managed",
                    "type": "terraform_data",
                    "name": f"item-{i}",
                    "provider": 'provider["terraform.io/builtin/terraform"]',
                    "instances": [
                        {
                            "schema_version": 0,
                            "attributes": {
                                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{stack}-{i}")),
                                "input": value,
                                "output": value,
                                "triggers_replace": None,
                            },
                            "sensitive_attributes": [],
                        }
                    ],
                }
                for i, value in enumerate(values)
            ],
            "check_results": None,
        }
        (folder / f"terraform.{stack}.tfstate").write_text(json.dumps(state, indent=2))


def stack_folder(folder: Path, stack: str) -> Path:
    """A stack's root module."""
    return folder / OUTDIR / "stacks" / stack
