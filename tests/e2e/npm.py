"""What tests need from npm, kept between runs in `.cache`, which git ignores."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.labfolder import ROOT
from tests.needs import lacking

CACHE = ROOT / ".cache"
TOOLS = Path(sys.executable).parent


def cdktf_cli() -> Path:
    """CDKTF's own CLI."""
    folder = CACHE / "cdktf-cli-0.21"
    _npm(folder, "install", "cdktf-cli@0.21.0")
    return folder / "node_modules" / ".bin" / "cdktf"


def node_modules(project: Path) -> Path:
    """What the lock file of a project names."""
    files = [project / "package.json", project / "package-lock.json"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = CACHE / f"npm-{project.name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder)
    _npm(folder, "ci")
    return folder / "node_modules"


def _npm(folder: Path, *command: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return
        argv = [str(TOOLS / "npm"), *command, "--no-fund", "--no-audit", "--loglevel=error"]
        done = subprocess.run(argv, cwd=folder, env=with_tools(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lacking(f"`npm {' '.join(command)}` needs a registry: {done.stderr[-300:]}")
        (folder / "complete").touch()


def with_tools() -> dict[str, str]:
    """This environment, with the Node and npm of this Python first."""
    return os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}


def plain(text: str) -> str:
    """The text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
