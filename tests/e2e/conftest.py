"""Labs on sandboxes of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.e2e.booted import LAB, Booted, engine
from tests.e2e.labfolder import LabFolder

LONGEST = (
    "test_services",
    "test_booted_guests",
    "test_faults",
    "test_chaos",
    "test_first_path",
    "test_api_faults",
    "test_drift",
    "test_review",
    "test_locks_and_taint",
    "test_any_cdktf",
    "test_identity",
    "test_terminal",
)
"""These files begin first, in this order, so that at the end no process waits long for the other one."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.e2e)
        if item.get_closest_marker("xdist_group") is None:
            # A file's tests share a lab.
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


NETWORKS = count(os.getpid() * 16)
"""Numbers of networks: no two processes that test at the same time share one."""


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LabFolder]]:
    """Makes labs, each on a loopback network of its own; their sandboxes are reset at the end."""
    made: list[LabFolder] = []

    def make(guests: str = "appliance") -> LabFolder:
        number = next(NETWORKS)
        network = f"127.{100 + number // 256 % 150}.{number % 256}.0/24"
        lab = LabFolder(tmp_path_factory.mktemp("lab"), network, guests, f"198.19.{number % 256}.0/24")
        (lab.path / "home").mkdir()
        lab.write("")
        made.append(lab)
        return lab

    yield make
    for lab in made:
        lab.write("")
        lab.run("sandbox", "reset", "--yes")
        shutil.rmtree(lab.path, ignore_errors=True)


@pytest.fixture(scope="session")
def deployed(make_lab: Callable[[], LabFolder]) -> LabFolder:
    """A lab that is up. Tests that use it leave it up and as described."""
    lab = make_lab()
    lab.ok("up", "--yes")
    return lab


@pytest.fixture(scope="session")
def booted(make_lab: Callable[..., LabFolder]) -> Booted:
    """The lab whose guests boot, up, with every service and app."""
    engine()
    lab = make_lab(guests="container")
    lab.write(LAB)
    lab.ok("sandbox", "start", timeout_s=600)
    lab.ok("up", "--yes", timeout_s=1200)
    return Booted(lab)


@pytest.fixture
def lab(make_lab: Callable[[], LabFolder]) -> LabFolder:
    """A lab that was never up."""
    return make_lab()
