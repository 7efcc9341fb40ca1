"""The Docker engine of guest `docker`, for commands that look at services or get into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.engine.guestcall import call_guest
from labctl.engine.lab import OpenLab
from labctl.engine.ssh import private_key, require_host_key
from labctl.model.catalogue import PLATFORM_SSH
from labctl.model.errors import UserError, nearest
from labctl.model.guestfiles import DOCKER, OPS

if TYPE_CHECKING:
    from labctl.adapters.compose import ComposeEngine
    from labctl.engine.labrun import LabRun


@contextmanager
def docker_engine(found: OpenLab, named: Sequence[Path] = ()) -> Iterator[ComposeEngine]:
    """The engine, over SSH with labctl's own key and the host key that is known; the connection ends with the block.

    Args:
        found: The lab.
        named: The operator's identity files.

    Raises:
        UserError: The guest is an appliance, which has no engine, or is not up.
        LabError: The hypervisor or the key is out of reach; the guest's host key is not known.
    """
    from labctl.adapters.compose import ComposeEngine, SshShell

    if not found.lab.boots:
        raise UserError(
            "guest docker is an appliance of the sandbox, which runs no services",
            hint="On a machine with a Docker engine, `labctl sandbox reset` and `labctl up` make guests that boot.",
        )
    with call_guest(found, DOCKER.name) as guest:
        address = guest.address()
        require_host_key(found, guest, address)
    key = private_key(found, named)
    engine = ComposeEngine(
        SshShell(f"ssh://{OPS}@{address}", key=key, known_hosts=found.paths.known_hosts, host_alias=DOCKER.name)
    )
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def engine_of(run: LabRun) -> Iterator[ComposeEngine]:
    """As `docker_engine`, of a run that is at it: platform is up and the Vault is open."""
    from labctl.adapters.compose import ComposeEngine, SshShell

    assert run.session is not None
    key = run.session.vault.read(PLATFORM_SSH)[1]["private_key"]
    address = str(run.outputs("platform")["docker_host"])
    engine = ComposeEngine(SshShell(address, key=key, known_hosts=run.paths.known_hosts, host_alias=DOCKER.name))
    try:
        yield engine
    finally:
        engine.close()


def project_of(found: OpenLab, name: str) -> str:
    """The Compose project of a service or app.

    Raises:
        UserError: The lab has none of this name.
    """
    names = found.lab.compose_projects
    if name not in names:
        raise UserError(f"the lab has no service {name!r}", hint=nearest(name, names))
    return name
