"""Who may do what in the Vault: the policies and roles that follow from the secret catalogue. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.model.catalogue import DRIFT, MOUNT, OPERATOR, PLATFORM_SSH, PROVIDER, SecretSpec, catalogue
from labctl.model.ci import MOUNT as JWT
from labctl.model.ci import JwtLogin, jwt_login
from labctl.model.lab import GuestSpec, Lab
from labctl.model.state import STATE_BUCKET

CI_READ = "ci-read"
"""The policy of the jobs that plan and change nothing."""
GUEST_SECRET_ID_TTL_S = 600
GUEST_TOKEN_PERIOD_S = 24 * 3600
OPERATOR_TOKEN_TTL_S = 4 * 3600
PROVIDER_SECRET_ID_TTL_S = 60
DRIFT_TOKEN_TTL_S = 3600
GUEST_WRAPPING_TTL_S = 300
"""How long a guest has to unwrap its secret-id."""
MIN_WRAPPING_TTL_S = 30
MAX_WRAPPING_TTL_S = 3600
_WRAPPED = {"min_wrapping_ttl": f"{MIN_WRAPPING_TTL_S}s", "max_wrapping_ttl": f"{MAX_WRAPPING_TTL_S}s"}


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """An AppRole.

    Attributes:
        name: Its name.
        policies: What its tokens may do.
        secret_id_num_uses: How often a secret-id can log in, 0 for without limit.
        secret_id_ttl_s: How long a secret-id lives, 0 for ever.
        token_ttl_s: How long a token lives; 0 with a period.
        token_period_s: A token may be renewed for ever, each time for this long; 0 for no.
        bound_cidrs: Networks that may log in and use the tokens; empty for any.
    """

    name: str
    policies: tuple[str, ...]
    secret_id_num_uses: int = 0
    secret_id_ttl_s: int = 0
    token_ttl_s: int = 0
    token_period_s: int = 0
    bound_cidrs: tuple[str, ...] = ()


def policies(lab: Lab) -> dict[str, str]:
    """The Vault policies by name: one a guest, those of labctl and of the nightly check, and that of the provider with services.

    Each is JSON, which the server reads as HCL.
    """
    specs = catalogue(lab)
    found = {guest_role(guest): _policy(_guest_paths(guest, specs)) for guest in lab.guests()}
    if lab.service_specs():
        found[PROVIDER] = _policy(_data_paths(spec for spec in specs if PROVIDER in spec.readers))
    drift = _drift_paths(services=bool(lab.service_specs()), jobs=lab.ci is not None)
    if lab.ci is not None:
        found[CI_READ] = _policy(_ci_paths(services=bool(lab.service_specs())))
    return {**found, DRIFT: _policy(drift), OPERATOR: _policy(_operator_paths(jobs=lab.ci is not None))}


def jobs_login(lab: Lab) -> JwtLogin | None:
    """How jobs of the lab's own repository log in; None where lab.yaml names none."""
    return jwt_login(lab.ci, lab.gitlab_url, read=CI_READ, drift=DRIFT, write=OPERATOR) if lab.ci else None


def _ci_paths(*, services: bool) -> dict[str, Any]:
    """What a plan needs: Terraform's state, and where there are services, a login for labctl's provider."""
    return {f"{MOUNT}/data/store/{STATE_BUCKET}": {"capabilities": ["read"]}, **(_provider_login() if services else {})}


def _provider_login() -> dict[str, Any]:
    """To log in for labctl's provider, wrapped only, and its way to the Docker engine."""
    return {
        f"{MOUNT}/data/{PLATFORM_SSH}": {"capabilities": ["read"]},
        f"auth/approle/role/{PROVIDER}/role-id": {"capabilities": ["read"]},
        f"auth/approle/role/{PROVIDER}/secret-id": {"capabilities": ["create", "update"], **_WRAPPED},
    }


def approles(lab: Lab) -> tuple[RoleSpec, ...]:
    """The AppRoles: one a guest, with secret-ids for one login, and those of labctl, its nightly check and its provider."""
    guests = [
        RoleSpec(
            guest_role(guest),
            policies=(guest_role(guest),),
            secret_id_num_uses=1,
            secret_id_ttl_s=GUEST_SECRET_ID_TTL_S,
            token_period_s=GUEST_TOKEN_PERIOD_S,
            bound_cidrs=_bound(lab, guest),
        )
        for guest in lab.guests()
    ]
    operator = RoleSpec(OPERATOR, policies=(OPERATOR,), token_ttl_s=OPERATOR_TOKEN_TTL_S)
    # Its secret-id has no end of its own: a check that stops by itself after a month would be worse.
    nightly = RoleSpec(DRIFT, (DRIFT,), token_ttl_s=DRIFT_TOKEN_TTL_S)
    return (*guests, operator, nightly, *_provider_role(lab))


def _provider_role(lab: Lab) -> Iterator[RoleSpec]:
    """The role of the provider: labctl logs in for it, once a run, and hands it the token."""
    if lab.service_specs():
        yield RoleSpec(
            PROVIDER,
            policies=(PROVIDER,),
            secret_id_num_uses=1,
            secret_id_ttl_s=PROVIDER_SECRET_ID_TTL_S,
            token_ttl_s=OPERATOR_TOKEN_TTL_S,
        )


def guest_role(guest: GuestSpec) -> str:
    """The name of a guest's AppRole, which is that of its policy too."""
    return f"guest-{guest.name}"


def _bound(lab: Lab, guest: GuestSpec) -> tuple[str, ...]:
    if not lab.boots:
        # Appliances are on this machine's loopback, where a client's source address is 127.0.0.1 unless it binds.
        return ("127.0.0.0/8",)
    return (f"{guest.ip}/32",) if guest.ip else ()


def _guest_paths(guest: GuestSpec, specs: tuple[SecretSpec, ...]) -> dict[str, Any]:
    own = [spec for spec in specs if guest.role.name in spec.readers]
    # Whether a secret that another system issues is there yet is seen in the folder's list: asking for it in vain, for ever,
    # would fill the logs. The list has names only, and the catalogue is no secret.
    awaited = {spec.path.rpartition("/")[0] for spec in own if not spec.generated}
    return {
        **_data_paths(own),
        **{f"{MOUNT}/metadata/{folder}/": {"capabilities": ["list"]} for folder in awaited},
    }


def _data_paths(specs: Iterable[SecretSpec]) -> dict[str, Any]:
    return {f"{MOUNT}/data/{spec.path}": {"capabilities": ["read"]} for spec in specs}


def _operator_paths(*, jobs: bool) -> dict[str, Any]:
    """What labctl may do: everything with the lab's secrets, and handing guests their identity, wrapped only.

    It may also write the policies and roles of guests and of projects, because a guest that is added to lab.yaml later, and a
    project that is provisioned for, need them. That makes it as good as an administrator, which the holder of the unseal key is
    anyway (docs/secrets.md).
    """
    return {
        f"{MOUNT}/data/*": {"capabilities": ["create", "read", "update"]},
        f"{MOUNT}/metadata/*": {"capabilities": ["list", "read"]},
        f"{MOUNT}/subkeys/*": {"capabilities": ["read"]},
        f"{MOUNT}/config": {"capabilities": ["read", "update"]},
        "auth/approle/role/": {"capabilities": ["list"]},
        "auth/approle/role/+": {"capabilities": ["create", "read", "update"]},
        "auth/approle/role/+/role-id": {"capabilities": ["read"]},
        "auth/approle/role/+/secret-id": {
            "capabilities": ["create", "update"],
            **_WRAPPED,
        },
        # What is taken from a guest whose identity somebody else used: secret-ids that are out, and logins.
        "auth/approle/role/+/secret-id/": {"capabilities": ["list"]},
        "auth/approle/role/+/secret-id-accessor/lookup": {"capabilities": ["create", "update"]},
        "auth/approle/role/+/secret-id-accessor/destroy": {"capabilities": ["create", "update"]},
        "auth/token/accessors/": {"capabilities": ["list", "sudo"]},
        "auth/token/lookup-accessor": {"capabilities": ["create", "update"]},
        "auth/token/revoke-accessor": {"capabilities": ["create", "update"]},
        "sys/policies/acl/": {"capabilities": ["list"]},
        "sys/policies/acl/guest-*": {"capabilities": ["create", "read", "update"]},
        "sys/policies/acl/project-*": {"capabilities": ["create", "read", "update"]},
        f"sys/policies/acl/{OPERATOR}": {"capabilities": ["read", "update"]},
        f"sys/policies/acl/{PROVIDER}": {"capabilities": ["create", "read", "update"]},
        f"sys/policies/acl/{DRIFT}": {"capabilities": ["create", "read", "update"]},
        "sys/auth": {"capabilities": ["read"]},
        "sys/mounts": {"capabilities": ["read"]},
        "sys/audit": {"capabilities": ["read", "sudo"]},
        **(_jobs_paths() if jobs else {}),
    }


def _jobs_paths() -> dict[str, Any]:
    """To set up the login of the repository's jobs. labctl may write its own policy, so a lab can get it later."""
    written = {"capabilities": ["create", "read", "update"]}
    return {
        f"sys/policies/acl/{CI_READ}": written,
        f"sys/auth/{JWT}": {"capabilities": ["create", "update", "sudo"]},
        f"auth/{JWT}/config": written,
        f"auth/{JWT}/role/+": written,
    }


def _drift_paths(*, services: bool, jobs: bool) -> dict[str, Any]:
    """What the nightly check may do: see how the Vault is set up and which secrets there are, and read Terraform's state.

    Of services Terraform sees only what labctl's provider tells it, and that has no other way to the Docker engine than a login
    to its guest: a lab with services lets the check have that too.
    """
    read, listed = {"capabilities": ["read"]}, {"capabilities": ["list"]}
    asked = {"capabilities": ["create", "update"]}
    return {
        f"{MOUNT}/data/store/{STATE_BUCKET}": read,
        f"{MOUNT}/metadata/*": {"capabilities": ["list", "read"]},
        f"{MOUNT}/subkeys/*": read,
        f"{MOUNT}/config": read,
        "auth/approle/role/": listed,
        "auth/approle/role/+": read,
        "auth/approle/role/+/secret-id/": listed,
        "auth/approle/role/+/secret-id-accessor/lookup": asked,
        "sys/policies/acl/": listed,
        "sys/policies/acl/+": read,
        "sys/auth": read,
        "sys/mounts": read,
        "sys/audit": {"capabilities": ["read", "sudo"]},
        **({f"auth/{JWT}/config": read, f"auth/{JWT}/role/+": read} if jobs else {}),
        **(_provider_login() if services else {}),
    }


def _policy(paths: Mapping[str, Any]) -> str:
    return json.dumps({"path": paths}, indent=2, sort_keys=True)
