"""Docker Compose and an image, for all tests that have projects on the engine of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dockercompose import IMAGE, create_image, docker, programs


@pytest.fixture(scope="session")
def compose_path() -> Iterator[Path]:
    """The folder with `docker` and `docker-compose`; `IMAGE` is there as long."""
    found = programs()
    create_image()
    yield found
    docker("rmi", "-f", IMAGE, check=False)
