"""Looks at the engine of guest `docker`: what runs there that no project of the lab owns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.engine.drift.area import Looking, deployed_layers, deployed_outputs
from labctl.model.drift import AreaDrift
from labctl.model.drift import docker as compare
from labctl.model.drift.applied import applied_projects
from labctl.model.errors import AdapterError, LabError
from labctl.model.ownprovider import OWN_LAYERS

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun
    from labctl.model.drift.docker import Inventory


def look(run: LabRun) -> AreaDrift:
    """The engine against the projects of the lab. Nothing is looked at where no layer that runs on it is deployed."""
    area = Looking(compare.AREA)
    if not deployed_layers(run) & set(OWN_LAYERS):
        return area.told()
    found = area.read(f"the engine of guest {compare.GUEST}", lambda: _inventory(run))
    if found is not None:
        projects = {*run.lab.compose_projects, *applied_projects(deployed_outputs(run))}
        area.add(len(found), *compare.compare_engine(projects, found))
    return area.told()


def _inventory(run: LabRun) -> Inventory:
    from labctl.engine.dockerguest import engine_of

    if run.session is None:
        error: LabError = run.session_problem or AdapterError("the Vault is not open", hint="Run `labctl up`.")
        raise error
    status = run.hypervisor.guest(run.lab.guest(compare.GUEST).settings.vmid).status
    if status != "running":
        raise AdapterError(f"the guest is {status}", hint="`labctl up --layer platform` starts it.")
    with engine_of(run) as engine:
        return engine.inventory()
