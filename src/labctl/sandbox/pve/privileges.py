"""Privileges, built-in roles, and what a caller may do on a path (pve-docs, chapter "User Management"; PVE 9 names)."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.sandbox.pve.formats import split_list
from labctl.sandbox.pve.state import State

_GUEST_AGENT = {"VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted"}
_VM_AUDIT = {"VM.Audit", "VM.GuestAgent.Audit"}
_VM_USER = _VM_AUDIT | _GUEST_AGENT | {"VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.PowerMgmt"}
_VM_ADMIN = _VM_USER | {
    "VM.Allocate",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Migrate",
    "VM.Replicate",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
}
_DATASTORE_USER = {"Datastore.AllocateSpace", "Datastore.Audit"}
_DATASTORE_ADMIN = _DATASTORE_USER | {"Datastore.Allocate", "Datastore.AllocateTemplate"}
_SDN_USER = {"SDN.Audit", "SDN.Use"}
_SDN_ADMIN = _SDN_USER | {"SDN.Allocate"}
_MAPPING_USER = {"Mapping.Audit", "Mapping.Use"}
_MAPPING_ADMIN = _MAPPING_USER | {"Mapping.Modify"}
_SYS_ADMIN = {"Sys.Audit", "Sys.Console", "Sys.Syslog"}
_USER_ADMIN = {"Group.Allocate", "Realm.AllocateUser", "User.Modify"}
_ROOT_ONLY = {"Permissions.Modify", "Realm.Allocate", "Sys.AccessNetwork", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt"}
_POOL_USER = {"Pool.Audit"}
_POOL_ADMIN = _POOL_USER | {"Pool.Allocate"}

ALL_PRIVILEGES: frozenset[str] = frozenset(
    _VM_ADMIN | _DATASTORE_ADMIN | _SDN_ADMIN | _MAPPING_ADMIN | _SYS_ADMIN | _USER_ADMIN | _ROOT_ONLY | _POOL_ADMIN
)

BUILT_IN_ROLES: dict[str, frozenset[str]] = {
    "Administrator": ALL_PRIVILEGES,
    "NoAccess": frozenset(),
    "PVEAdmin": ALL_PRIVILEGES - _ROOT_ONLY,
    "PVEAuditor": frozenset(_VM_AUDIT | {"Datastore.Audit", "Mapping.Audit", "Pool.Audit", "SDN.Audit", "Sys.Audit"}),
    "PVEDatastoreAdmin": frozenset(_DATASTORE_ADMIN),
    "PVEDatastoreUser": frozenset(_DATASTORE_USER),
    "PVEMappingAdmin": frozenset(_MAPPING_ADMIN),
    "PVEMappingAuditor": frozenset({"Mapping.Audit"}),
    "PVEMappingUser": frozenset(_MAPPING_USER),
    "PVEPoolAdmin": frozenset(_POOL_ADMIN),
    "PVEPoolUser": frozenset(_POOL_USER),
    "PVESDNAdmin": frozenset(_SDN_ADMIN),
    "PVESDNUser": frozenset(_SDN_USER),
    "PVESysAdmin": frozenset(_SYS_ADMIN),
    "PVETemplateUser": frozenset({"VM.Audit", "VM.Clone"}),
    "PVEUserAdmin": frozenset(_USER_ADMIN),
    "PVEVMAdmin": frozenset(_VM_ADMIN),
    "PVEVMUser": frozenset(_VM_USER),
}

DEFAULT_PATHS = ("/", "/access", "/access/groups", "/access/realm", "/mapping", "/nodes", "/pool", "/sdn", "/storage", "/vms")
ROOT = "root@pam"


def owner_of(caller: str) -> str:
    """The user behind a caller: the part of a token's id before `!`."""
    return caller.partition("!")[0]


def role_privileges(state: State, role: str) -> frozenset[str]:
    """The privileges of a role, built-in or the lab's own; an unknown one has none."""
    return BUILT_IN_ROLES[role] if role in BUILT_IN_ROLES else frozenset(split_list(state.roles.get(role, "")))


def permissions(state: State, caller: str, path: str) -> dict[str, int]:
    """The privileges of a caller on a path, each with whether it propagates further down.

    A token with privilege separation has at most what its user has.
    """
    user = owner_of(caller)
    if caller != user:
        token = state.tokens.get(caller)
        if token is None:
            return {}
        if not token.privsep:
            return permissions(state, user, path)
        own, limit = _resolve(state, caller, path), permissions(state, user, path)
        return {privilege: propagate for privilege, propagate in own.items() if privilege in limit}
    if caller == ROOT:
        return dict.fromkeys(ALL_PRIVILEGES, 1)
    return _resolve(state, caller, path)


def _resolve(state: State, caller: str, path: str) -> dict[str, int]:
    roles = _roles(state, caller, path)
    for pool in _pools_with(state, path):
        if "NoAccess" not in roles:
            # A pool's roles count for its members, but not for anything below them (PVE::RPCEnvironment, compile_acl_path).
            roles = {**dict.fromkeys(_roles(state, caller, f"/pool/{pool}"), 0), **roles}
    if "NoAccess" in roles:
        return {}
    found: dict[str, int] = {}
    for role, propagate in roles.items():
        for privilege in role_privileges(state, role):
            found[privilege] = max(found.get(privilege, 0), propagate)
    return found


def _roles(state: State, caller: str, path: str) -> dict[str, int]:
    """Roles on a path: the deepest prefix that names the caller wins, and a user's own entry wins over those of its groups."""
    groups = split_list(state.users[caller].groups) if caller in state.users else []
    kind = "token" if "!" in caller else "user"
    roles: dict[str, int] = {}
    for prefix in _prefixes(path):
        here = [entry for entry in state.acl if entry.path == prefix and (entry.propagate or prefix == path)]
        own = {entry.roleid: entry.propagate for entry in here if entry.type == kind and entry.ugid == caller}
        shared = {entry.roleid: entry.propagate for entry in here if entry.type == "group" and entry.ugid in groups}
        roles = own or shared or roles
    return roles


def _prefixes(path: str) -> Iterable[str]:
    yield "/"
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        yield "/" + "/".join(parts[:count])


def _pools_with(state: State, path: str) -> Iterable[str]:
    _, _, rest = path.partition("/vms/")
    guest = state.guests.get(rest)
    if guest and guest.pool:
        yield guest.pool


def effective(state: State, caller: str, only: str = "") -> dict[str, dict[str, int]]:
    """What `GET /access/permissions` answers: privileges by path, for every path where the caller can have some."""
    if only:
        return {only: dict(sorted(permissions(state, caller, only).items()))}
    paths = {*DEFAULT_PATHS, *(entry.path for entry in state.acl)}
    paths |= {f"/vms/{key}" for key, guest in state.guests.items() if guest.pool}
    found = {path: dict(sorted(permissions(state, caller, path).items())) for path in sorted(paths)}
    return {path: held for path, held in found.items() if held}
