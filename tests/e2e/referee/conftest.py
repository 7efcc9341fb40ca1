from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.referee import fakepve as fakepve_process
from tests.e2e.referee.replay import Referee


@pytest.fixture
def fakepve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Referee]:
    """A fresh fakepve."""
    with fakepve_process.running(tmp_path_factory.mktemp("fakepve")) as referee:
        yield referee
