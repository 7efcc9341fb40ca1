"""A stand-in of GitLab for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gitlabstandin import Standin, configured, prepared


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a short name: the path of a socket in it may have no more than about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="gitlab-") as folder:
        yield Path(folder)


@pytest.fixture
def fresh(root: Path) -> Iterator[Standin]:
    standin = prepared(root)
    yield standin
    standin.stop()


@pytest.fixture
def standin(root: Path) -> Iterator[Standin]:
    found = configured(root)
    yield found
    found.stop()
