"""A drift check's looks at the world beside the states, called in this process over a lab that is up."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from labctl.engine.labrun import LabRun
from labctl.engine.run import Options
from labctl.engine.stages import open_hypervisor, read_states, synthesise
from labctl.engine.start import starting
from labctl.model.drift import AreaDrift
from tests.e2e.labfolder import LabFolder

AREAS = ("vault", "store", "docker", "guests")


@contextmanager
def opened(lab: LabFolder) -> Iterator[LabRun]:
    """A run over the lab, as far as its states are read."""
    with (
        mock.patch.dict(os.environ, lab.environment(), clear=True),
        starting("output", lab.path / "lab.yaml", Options(), lambda _event: None) as run,
    ):
        for stage in (open_hypervisor, synthesise, read_states):
            stage(run)
        yield run


def looked(lab: LabFolder, *areas: str) -> dict[str, AreaDrift]:
    """What each area looks like, all of them without names."""
    with opened(lab) as run:
        return {name: importlib.import_module(f"labctl.engine.drift.{name}").look(run) for name in areas or AREAS}
