"""What tests need of the machine: without it they are skipped, saying what brings it, and fail in CI, where all is there."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lacking(message: str) -> NoReturn:
    """Skips the test; fails it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def needed(name: str, package: str) -> str:
    """The path of a program, also of one that only root has on PATH."""
    if path := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        return path
    lacking(f"{name} is missing: apt-get install {package}")
