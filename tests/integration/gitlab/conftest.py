"""A stand-in of GitLab for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gitlabstandin import Standin, configured, prepared


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Standin]:
    standin = prepared(tmp_path)
    yield standin
    standin.stop()


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Standin]:
    found = configured(tmp_path)
    yield found
    found.stop()
