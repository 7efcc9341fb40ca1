"""Prints the extras that this machine needs besides `sandbox`: a Terraform engine, a Go toolchain.

`engine` where neither terraform nor tofu is on PATH; `go` where no Go is on PATH and no Terraform registry answers, so that the
provider must be built here.
"""

from __future__ import annotations

import shutil
from urllib.error import URLError
from urllib.request import urlopen

REGISTRY = "https://registry.terraform.io/.well-known/terraform.json"


def extras() -> list[str]:
    """The names of the extras."""
    found = []
    if not shutil.which("terraform") and not shutil.which("tofu"):
        found.append("engine")
    if not shutil.which("go") and not _registry_answers():
        found.append("go")
    return found


def _registry_answers() -> bool:
    try:
        with urlopen(REGISTRY, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    print(" ".join(f"--extra {name}" for name in extras()))
