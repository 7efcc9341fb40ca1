"""Synthesises another revision of a lab, with that revision's own code, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from labctl.model.errors import AdapterError

TIMEOUT_S = 300
_PACKAGES = ("labctl", "stacks", "layers")

_CREDENTIALS = ("PROXMOX_VE_", "LABCTL_VAULT_", "LABCTL_GITLAB_", "CI_JOB_", "AWS_", "VAULT_")
"""Beginnings of variables that a synthesis has no use for."""

_CHILD = """\
import json, sys
from pathlib import Path
given = json.load(sys.stdin)
from labctl.model.labfile import parse_lab
from labctl.model.stackcontext import StackContext
from labctl.synth.synthesis import stack_documents
lab = parse_lab(Path(given["file"]).read_text(encoding="utf-8"), Path(given["file"]).name)
if lab.target.sandbox and given["guests"]:
    lab = lab.with_guests(given["guests"])
root = Path(given["root"]) / lab.name
found = stack_documents(StackContext(
    lab=lab, authority_pem=given["authority_pem"], own_ssh_key=given["own_ssh_key"], state_dir=root / "state", outdir=root,
))
Path(given["answer"]).write_text(json.dumps(found), encoding="utf-8")
"""


@dataclass(frozen=True, slots=True)
class Revision:
    """Another revision of the repository that a lab lies in.

    Attributes:
        top: The upper folder of the work tree.
        tree: The revision's files.
        scratch: A folder for what is passed to and fro.
    """

    top: Path
    tree: Path
    scratch: Path

    def place(self, path: Path) -> Path:
        """Where a file of the work tree lies in this revision; a path outside of the work tree is the same for both."""
        try:
            return self.tree / path.resolve().relative_to(self.top.resolve())
        except ValueError:
            return path

    def code(self) -> tuple[str, ...]:
        """The folders that the revision's own packages are imported from: of those that this process has from the work tree."""
        found = []
        for name in _PACKAGES:
            spec = find_spec(name)
            for folder in (spec.submodule_search_locations or ()) if spec else ():
                placed = self.place(Path(folder)).parent
                if placed.is_relative_to(self.tree) and str(placed) not in found:
                    found.append(str(placed))
        return tuple(found)


def revision_documents(
    revision: Revision, lab_file: Path, *, guests: str = "", authority_pem: str = "", own_ssh_key: str = ""
) -> dict[str, str]:
    """The documents of another revision's stacks, by their path from the lab's folder.

    Paths inside them lead from that revision's stacks to its sources as in the work tree, so that only what changed differs.

    Args:
        revision: The revision.
        lab_file: The lab's description in the work tree.
        guests: What runs behind the guests of a sandbox lab; "" on a real host.
        authority_pem: As in `StackContext`.
        own_ssh_key: As in `StackContext`.

    Raises:
        AdapterError: It cannot be synthesised: its description or its code has a mistake, or needs another labctl.
    """
    answer = revision.scratch / "documents.json"
    # The sources of images stand in the documents by their path from the stacks: both move together, or neither.
    moves = any(Path(folder, "layers").is_dir() for folder in revision.code())
    root = (revision.place(lab_file.parent) if moves else lab_file.parent) / ".labctl"
    given = {
        "file": str(revision.place(lab_file)),
        "guests": guests,
        "authority_pem": authority_pem,
        "own_ssh_key": own_ssh_key,
        "root": str(root),
        "answer": str(answer),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_CREDENTIALS)}
    own_path = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=json.dumps(given).encode(),
            capture_output=True,
            cwd=revision.scratch,
            env={**kept, "PYTHONPATH": os.pathsep.join([*revision.code(), *own_path]), "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode == 0:
            documents: dict[str, str] = json.loads(answer.read_text(encoding="utf-8"))
            return documents
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise AdapterError(f"it cannot be synthesised: {error}") from error
    said = done.stderr.decode(errors="replace").strip().splitlines()
    # Of a traceback, the last line, without the name of labctl's own error.
    last = said[-1].removeprefix("labctl.model.errors.UserError: ") if said else str(done.returncode)
    raise AdapterError(f"it cannot be synthesised: {last}")
