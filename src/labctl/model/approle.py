"""An AppRole as the Vault's API has it, and in what two differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.model.vaultroles import RoleSpec


def role_parameters(role: RoleSpec) -> dict[str, Any]:
    """The role as the API takes it."""
    return {
        "bind_secret_id": True,
        "secret_id_num_uses": role.secret_id_num_uses,
        "secret_id_ttl": role.secret_id_ttl_s,
        "secret_id_bound_cidrs": list(role.bound_cidrs),
        "token_policies": list(role.policies),
        "token_ttl": role.token_ttl_s,
        "token_max_ttl": role.token_ttl_s,
        "token_period": role.token_period_s,
        "token_bound_cidrs": list(role.bound_cidrs),
    }


def differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that differ. Lists are sets; the server drops the /32 of a single address, and gives null for empty."""
    return tuple(name for name, value in wanted.items() if _normal(value) != _normal(found.get(name)))


def _normal(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(str(item).removesuffix("/32") for item in value) or None
    return value or None
