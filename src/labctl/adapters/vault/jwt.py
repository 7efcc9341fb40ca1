"""The Vault's JWT login: set up as wanted, and used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labctl.adapters.vault._errors import Absent, explained
from labctl.adapters.vault.client import Vault
from labctl.model.ci import MOUNT, JwtLogin, role_body
from labctl.model.errors import UserError
from labctl.model.secret import Secret


def ensure_jwt(vault: Vault, wanted: JwtLogin) -> list[str]:
    """Enables and configures the login and its roles; returns what was changed, a line each.

    Raises:
        UserError: The authority's file is not there; GitLab's keys cannot be fetched by the Vault.
    """
    changes = []
    with explained(vault.address):
        if f"{MOUNT}/" not in vault.client.sys.list_auth_methods()["data"]:
            vault.client.sys.enable_auth_method("jwt", path=MOUNT, description="labctl: jobs of the lab's repository")
            changes.append("auth method jwt enabled")
    for path in differing_jwt(vault, wanted):
        with explained(vault.address):
            vault.client.write_data(path, data=_bodies(wanted)[path])
        changes.append(f"{path} written")
    return changes


def differing_jwt(vault: Vault, wanted: JwtLogin) -> tuple[str, ...]:
    """The paths of the login's configuration and roles that are not as wanted.

    Raises:
        UserError: The authority's file is not there.
        Denied: The token may not read them.
    """
    return tuple(path for path, body in _bodies(wanted).items() if _differs(vault, path, body))


def _bodies(wanted: JwtLogin) -> dict[str, dict[str, Any]]:
    """What is to be written where: the configuration first."""
    config = {"jwks_url": wanted.keys_url, "bound_issuer": wanted.issuer, "jwks_ca_pem": _pem(wanted.ca_file)}
    roles = {f"auth/{MOUNT}/role/{role.name}": role_body(role, wanted.audience) for role in wanted.roles}
    return {f"auth/{MOUNT}/config": config, **roles}


def login_jwt(vault: Vault, role: str, token: Secret) -> Vault:
    """The same Vault, acting as a job in this role.

    Raises:
        UserError: The token is refused: expired, of another project or branch, or for another audience.
    """
    with explained(vault.address):
        answer = vault.with_token(Secret("")).client.auth.jwt.jwt_login(role, token.reveal(), use_token=False, path=MOUNT)
    return vault.with_token(Secret(answer["auth"]["client_token"]))


def _pem(file: str) -> str:
    if not file:
        return ""
    try:
        return Path(file).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=f"ci.ca_file: {file}", hint="It is a PEM file.") from error


def _differs(vault: Vault, path: str, wanted: dict[str, Any]) -> bool:
    try:
        with explained(vault.address):
            found = (vault.client.read(path) or {}).get("data") or {}
    except Absent:
        return True
    return any((found.get(name) or None) != (value or None) for name, value in wanted.items())
