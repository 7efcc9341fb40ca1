"""The user-data document of a guest."""

from __future__ import annotations

from collections.abc import Callable

from labctl.cloudinit.base import base_part, last_part
from labctl.cloudinit.docker import docker_engine, gpu_part, remote_access
from labctl.cloudinit.document import render
from labctl.cloudinit.gitlab import gitlab_part
from labctl.cloudinit.identity import identity_part
from labctl.cloudinit.part import Part, merge
from labctl.cloudinit.request import UserDataRequest
from labctl.cloudinit.store import store_part
from labctl.cloudinit.vault import vault_part
from labctl.model.errors import LabError, nearest

Parts = Callable[[UserDataRequest], tuple[Part, ...]]

_ROLES: dict[str, Parts] = {
    "vault": lambda request: (vault_part(request),),
    "store": lambda request: (store_part(request),),
    "gitlab": lambda request: (identity_part(request), docker_engine(request.lab), gitlab_part(request)),
    "docker": lambda request: (
        identity_part(request),
        docker_engine(request.lab),
        remote_access(),
        gpu_part(request.lab),
    ),
}


def user_data(request: UserDataRequest) -> str:
    """The guest's whole user-data document, as cloud-init takes it.

    Raises:
        LabError: The guest's role has no document, a value cannot be written down, or GitLab is asked for without a store.
    """
    role = request.guest.role.name
    if role not in _ROLES:
        raise LabError(f"no document for role {role!r}", where=request.guest.name, hint=nearest(role, _ROLES))
    if role == "gitlab" and not (request.s3_endpoint and request.s3_region):
        raise LabError(
            "GitLab's registry needs the object store's endpoint and region",
            where=request.guest.name,
            hint="Both are in the contract that foundation publishes.",
        )
    return render(merge((base_part(request), *_ROLES[role](request), last_part())))
