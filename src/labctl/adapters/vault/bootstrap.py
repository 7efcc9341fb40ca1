"""Brings a Vault's audit, logins, mount, policies and roles to what is wanted, writing only what differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.adapters.vault._errors import Absent, Busy, explained
from labctl.adapters.vault.client import Vault
from labctl.adapters.vault.jwt import ensure_jwt
from labctl.model.approle import differing, role_parameters
from labctl.model.catalogue import MAX_VERSIONS, MOUNT, OPERATOR
from labctl.model.ci import JwtLogin
from labctl.model.errors import AdapterError, UserError
from labctl.model.vaultroles import RoleSpec

_APPROLE = "approle"
_UPGRADE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Desired:
    """What a Vault should be like.

    Attributes:
        policies: Policy documents by name.
        roles: AppRoles.
        max_versions: How many versions of a secret are kept.
        jwt: The login of jobs; None leaves it as it is.
    """

    policies: Mapping[str, str]
    roles: tuple[RoleSpec, ...]
    max_versions: int = MAX_VERSIONS
    jwt: JwtLogin | None = None


def bootstrap(vault: Vault, desired: Desired) -> tuple[str, ...]:
    """Makes the Vault as desired and returns what was changed, a line each; nothing when it was so already.

    The first time this needs the root token; afterwards the operator's own rights are enough.

    Raises:
        AdapterError: No audit device is on. Since OpenBao 2.4 the server's configuration declares it, the API cannot add it.
        UserError: A right is missing; the mount's path is taken by something else.
    """
    require_audit(vault)
    changes: list[str] = []
    changes += _auth(vault)
    changes += _mount(vault, desired.max_versions)
    # labctl's own policy comes first: it may hold the rights that writing the others needs.
    for name in sorted(desired.policies, key=lambda policy: (policy != OPERATOR, policy)):
        changes += _policy(vault, name, desired.policies[name])
    for role in desired.roles:
        changes += _role(vault, role)
    if desired.jwt is not None:
        changes += ensure_jwt(vault, desired.jwt)
    return tuple(changes)


def require_audit(vault: Vault) -> None:
    """Makes sure that every request is written down.

    Raises:
        AdapterError: No audit device is on.
    """
    with explained(vault.address):
        devices = vault.client.sys.list_enabled_audit_devices()["data"]
    if not devices:
        raise AdapterError(
            "no audit device is on",
            where=vault.address,
            hint='Declare one in the server\'s configuration (audit "file" "main" {...}) and restart openbao.service.',
        )


def _auth(vault: Vault) -> list[str]:
    with explained(vault.address):
        if f"{_APPROLE}/" in vault.client.sys.list_auth_methods()["data"]:
            return []
        vault.client.sys.enable_auth_method(_APPROLE, description="labctl: guests and the operator")
    return ["auth method approle enabled"]


def _mount(vault: Vault, max_versions: int) -> list[str]:
    changes = []
    with explained(vault.address):
        found = vault.client.sys.list_mounted_secrets_engines()["data"].get(f"{MOUNT}/")
        if found is None:
            vault.client.sys.enable_secrets_engine(
                "kv", path=MOUNT, options={"version": "2"}, description="labctl: the lab's secrets"
            )
            changes.append(f"KV mount {MOUNT}/ made")
        elif (found["type"], (found["options"] or {}).get("version")) != ("kv", "2"):
            raise UserError(
                f"mount {MOUNT}/ is there, but is not KV version 2", where=vault.address, hint="Move it: `bao secrets move`."
            )
    wanted = {"cas_required": True, "max_versions": max_versions}
    if differing(wanted, _upgraded(vault, lambda: vault.client.secrets.kv.v2.read_configuration(mount_point=MOUNT)["data"])):
        with explained(vault.address):
            vault.client.secrets.kv.v2.configure(max_versions=max_versions, cas_required=True, mount_point=MOUNT)
        changes.append(f"KV mount {MOUNT}/ configured: check-and-set required, {max_versions} versions")
    return changes


def _upgraded(vault: Vault, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A mount that was just made refuses requests for a moment, until its storage has the layout of version 2."""
    deadline = time.monotonic() + _UPGRADE_TIMEOUT_S
    while True:
        try:
            with explained(vault.address):
                return read()
        except (AdapterError, Busy) as error:
            if "pgrading" not in error.message or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _policy(vault: Vault, name: str, document: str) -> list[str]:
    try:
        with explained(vault.address):
            found = vault.client.sys.read_acl_policy(name)["data"]["policy"]
    except Absent:
        found = None
    if found == document:
        return []
    with explained(vault.address):
        vault.client.sys.create_or_update_acl_policy(name, document, pretty_print=False)
    return [f"policy {name} {'written' if found is None else 'changed'}"]


def _role(vault: Vault, role: RoleSpec) -> list[str]:
    wanted = role_parameters(role)
    try:
        with explained(vault.address):
            found = vault.client.auth.approle.read_role(role.name)["data"]
    except Absent:
        found = None
    different = tuple(wanted) if found is None else differing(wanted, found)
    if not different:
        return []
    with explained(vault.address):
        vault.client.auth.approle.create_or_update_approle(role.name, **wanted)
    return [f"role {role.name} written" if found is None else f"role {role.name} changed: {', '.join(different)}"]
