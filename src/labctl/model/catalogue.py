"""The secret catalogue: every secret of a lab, who may read it, and the Vault policies and roles that follow from it.

Pure: it says what is to be generated; `labctl.adapters.vault` generates it, and only where it is absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from labctl.model.ci import MOUNT as JWT
from labctl.model.ci import JwtLogin, jwt_login
from labctl.model.compose import CONTENT_KEY
from labctl.model.errors import UserError
from labctl.model.lab import GuestSpec, Lab
from labctl.model.services import ServiceSpec
from labctl.model.state import STATE_BUCKET

MOUNT = "lab"
"""Where the KV version 2 engine is mounted."""

OPERATOR = "labctl"
"""The policy and AppRole of labctl itself, and its name among the readers of a secret."""

PROVIDER = "provider"
"""The policy and AppRole of labctl's Terraform provider, and its name among the readers of a secret."""

CI_READ = "ci-read"
"""The policy of the jobs that plan and change nothing."""

STORE_ROOT = "store/root"
GITLAB_ROOT = "gitlab/root"
GITLAB_RUNNER = "gitlab/runner"
GITLAB_REGISTRY = "gitlab/registry"
"""Where a lab has apps: the login with which their images are pushed and pulled."""
PLATFORM_SSH = "platform/ssh"
"""labctl's own SSH key, with which it logs in to guests."""

MAX_VERSIONS = 10
GUEST_SECRET_ID_TTL_S = 600
GUEST_TOKEN_PERIOD_S = 24 * 3600
OPERATOR_TOKEN_TTL_S = 4 * 3600
PROVIDER_SECRET_ID_TTL_S = 60
GUEST_WRAPPING_TTL_S = 300
"""How long a guest has to unwrap its secret-id."""
MIN_WRAPPING_TTL_S = 30
MAX_WRAPPING_TTL_S = 3600

Kind = Literal["password", "access_key", "secret_key", "uuid", "token", "external"]


@dataclass(frozen=True, slots=True)
class Generator:
    """How a value comes to be.

    Attributes:
        kind: `password` and `secret_key` are letters and digits, `access_key` capitals and digits, `token` hexadecimal digits;
            `uuid`; `external`: another system issues it, it is written later.
        length: Characters; a uuid has its own.
        prefix: What stands before them, by which people and scanners know what it is.
    """

    kind: Kind
    length: int = 32
    prefix: str = ""


PASSWORD = Generator("password", 32)
ACCESS_KEY = Generator("access_key", 20)
SECRET_KEY = Generator("secret_key", 40)
GITLAB_TOKEN = Generator("password", 20, prefix="glpat-")
"""GitLab takes any value that it is told to set; this is how its own look, which masks in job logs and secret scanners go by."""
EXTERNAL = Generator("external", 0)


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """A secret of the lab.

    Attributes:
        path: Its path in the KV mount.
        fields: How each of its fields is generated.
        readers: Roles of the guests that may read it; `provider` for what services are given; `labctl` for the operator.
        description: What it is for.
        rotation: What to do after a new value was written.
        fixed: Generated fields of which a new value would not count by itself: labctl makes none.
    """

    path: str
    fields: Mapping[str, Generator]
    readers: tuple[str, ...]
    description: str
    rotation: str
    fixed: frozenset[str] = frozenset()

    @property
    def rotated(self) -> Mapping[str, Generator]:
        """The fields that `labctl secrets rotate` makes anew."""
        return {name: generator for name, generator in self.generated.items() if name not in self.fixed}

    @property
    def generated(self) -> Mapping[str, Generator]:
        """The fields that labctl generates."""
        return {name: generator for name, generator in self.fields.items() if generator.kind != "external"}


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


def catalogue(lab: Lab) -> tuple[SecretSpec, ...]:
    """Every secret of the lab, by path.

    Raises:
        UserError: Two secrets would share a path.
    """
    s3 = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    redeliver = "`labctl up` delivers it to guest store and to its readers."
    specs = [
        SecretSpec(STORE_ROOT, s3, ("store", OPERATOR), "administrator of the object store", redeliver),
        SecretSpec(
            GITLAB_ROOT,
            {"password": PASSWORD, "api_token": GITLAB_TOKEN},
            ("gitlab", OPERATOR),
            "GitLab's administrator `root`: password, and the token with which labctl asks the API",
            "A new token counts once guest gitlab has it (`labctl up`), a new password never: change that in GitLab too.",
            fixed=frozenset({"password", "api_token"}),
        ),
        SecretSpec(
            GITLAB_RUNNER,
            {"token": EXTERNAL},
            ("gitlab", OPERATOR),
            "authentication token of the runner, issued by GitLab",
            "Remove the runner in GitLab: `labctl up` makes another, whose token it keeps here.",
        ),
        SecretSpec(
            PLATFORM_SSH,
            {"private_key": EXTERNAL},
            (OPERATOR,),
            "labctl's own SSH key, for user `ops` of every guest",
            "Guests know the public half from their first boot: a new key reaches new guests only.",
        ),
    ]
    for bucket, path in bucket_secrets(lab).items():
        readers = ("store", *_BUCKET_READERS.get(bucket, (OPERATOR,)))
        specs.append(SecretSpec(path, s3, readers, f"access to bucket `{bucket}` alone", redeliver))
    specs += _service_secrets(lab)
    specs += _registry_login(lab)
    given = _given_to_services(lab.service_specs())
    return tuple(sorted((_read_by_provider(spec) if spec.path in given else spec for spec in specs), key=lambda spec: spec.path))


def _given_to_services(services: tuple[ServiceSpec, ...]) -> frozenset[str]:
    """The paths that the Compose files of services take secrets from."""
    return frozenset(source.partition("#")[0] for service in services for source in service.kind.secrets.values())


def _read_by_provider(spec: SecretSpec) -> SecretSpec:
    return spec if PROVIDER in spec.readers else replace(spec, readers=(*spec.readers, PROVIDER))


def _service_secrets(lab: Lab) -> Iterator[SecretSpec]:
    services = lab.service_specs()
    if not services:
        return
    yield SecretSpec(
        CONTENT_KEY,
        {"key": SECRET_KEY},
        (PROVIDER,),
        "key of the hashes by which a changed secret is seen in Terraform's state",
        "`labctl up` then counts every service that is given a secret as changed, once.",
    )
    for service in services:
        fields, description, rotation = _SERVICE_SECRETS.get(service.name, ({}, "", ""))
        if fields:
            fixed = _FIXED.get(service.name, frozenset())
            yield SecretSpec(f"services/{service.name}", fields, (PROVIDER, OPERATOR), description, rotation, fixed)


def generated_fields(path: str) -> frozenset[str]:
    """The fields that labctl generates at a path, where a lab has that: one that is absent comes with foundation's steps."""
    folder, _, name = path.partition("/")
    if path == CONTENT_KEY:
        return frozenset({"key"})
    if path == GITLAB_ROOT:
        return frozenset({"password", "api_token"})
    if folder == "store":
        return frozenset({"access_key", "secret_key"})
    return frozenset(_SERVICE_SECRETS[name][0]) if folder == "services" and name in _SERVICE_SECRETS else frozenset()


def _registry_login(lab: Lab) -> Iterator[SecretSpec]:
    if not lab.app_specs():
        return
    yield SecretSpec(
        GITLAB_REGISTRY,
        {"username": EXTERNAL, "token": EXTERNAL},
        (PROVIDER, OPERATOR),
        f"login to the container registry of `{lab.apps.project}`: a deploy token, issued by GitLab",
        f"Revoke deploy token `labctl` of `{lab.apps.project}` in GitLab (Settings > Repository): `labctl up` makes another.",
    )


_APPLIED = "`labctl up` gives it to the service and to those that use it, and starts them again."
_SERVICE_SECRETS: Mapping[str, tuple[Mapping[str, Generator], str, str]] = {
    "postgres": ({"password": PASSWORD}, "PostgreSQL's superuser", _APPLIED),
    "mlflow": ({"password": PASSWORD}, "MLflow's role in PostgreSQL", _APPLIED),
    "open_webui": (
        {"password": PASSWORD, "session_key": SECRET_KEY},
        "Open WebUI's first administrator, and the key that signs its sessions",
        "A new key ends all sessions. A new password never counts: change it in Open WebUI too.",
    ),
    "portainer": (
        {"password": PASSWORD},
        "Portainer's administrator `admin`",
        "A new one never counts: change it in Portainer too.",
    ),
}

_FIXED: Mapping[str, frozenset[str]] = {"open_webui": frozenset({"password"}), "portainer": frozenset({"password"})}

_BUCKET_READERS: Mapping[str, tuple[str, ...]] = {"terraform": (OPERATOR,), "gitlab": ("gitlab",), "mlflow": ("docker",)}


def bucket_secrets(lab: Lab) -> dict[str, str]:
    """The path of the credentials of each bucket.

    Raises:
        UserError: A bucket's name is that of the store's administrator.
    """
    paths = {bucket: f"store/{bucket}" for bucket in lab.foundation.store.buckets}
    for bucket, path in paths.items():
        if path == STORE_ROOT:
            raise UserError(
                f"bucket {bucket!r} has the name under which the object store's administrator is kept",
                where="foundation.store.buckets",
                hint="Choose another name.",
            )
    return paths


def policies(lab: Lab) -> dict[str, str]:
    """The Vault policies by name: one a guest, that of labctl, and that of its provider where the lab has services.

    Each is JSON, which the server reads as HCL.
    """
    specs = catalogue(lab)
    found = {guest_role(guest): _policy(_guest_paths(guest, specs)) for guest in lab.guests()}
    if lab.service_specs():
        found[PROVIDER] = _policy(_data_paths(spec for spec in specs if PROVIDER in spec.readers))
    if lab.ci is not None:
        found[CI_READ] = _policy(_ci_paths(services=bool(lab.service_specs())))
    return {**found, OPERATOR: _policy(_operator_paths(jobs=lab.ci is not None))}


def jobs_login(lab: Lab) -> JwtLogin | None:
    """How jobs of the lab's own repository log in; None where lab.yaml names none."""
    return jwt_login(lab.ci, lab.gitlab_url, read=CI_READ, drift=CI_READ, write=OPERATOR) if lab.ci else None


def _ci_paths(*, services: bool) -> dict[str, Any]:
    """What a plan needs: Terraform's state, and where there are services, a login for labctl's provider, wrapped only."""
    wrapped = {"min_wrapping_ttl": f"{MIN_WRAPPING_TTL_S}s", "max_wrapping_ttl": f"{MAX_WRAPPING_TTL_S}s"}
    provider = {
        f"{MOUNT}/data/{PLATFORM_SSH}": {"capabilities": ["read"]},
        f"auth/approle/role/{PROVIDER}/role-id": {"capabilities": ["read"]},
        f"auth/approle/role/{PROVIDER}/secret-id": {"capabilities": ["create", "update"], **wrapped},
    }
    return {f"{MOUNT}/data/store/{STATE_BUCKET}": {"capabilities": ["read"]}, **(provider if services else {})}


def approles(lab: Lab) -> tuple[RoleSpec, ...]:
    """The AppRoles: one a guest, with secret-ids for one login, that of labctl, and that of its provider where it is needed."""
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
    return (*guests, operator, *_provider_role(lab))


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
        f"{MOUNT}/config": {"capabilities": ["read", "update"]},
        "auth/approle/role/+": {"capabilities": ["create", "read", "update"]},
        "auth/approle/role/+/role-id": {"capabilities": ["read"]},
        "auth/approle/role/+/secret-id": {
            "capabilities": ["create", "update"],
            "min_wrapping_ttl": f"{MIN_WRAPPING_TTL_S}s",
            "max_wrapping_ttl": f"{MAX_WRAPPING_TTL_S}s",
        },
        # What is taken from a guest whose identity somebody else used: secret-ids that are out, and logins.
        "auth/approle/role/+/secret-id/": {"capabilities": ["list"]},
        "auth/approle/role/+/secret-id-accessor/destroy": {"capabilities": ["create", "update"]},
        "auth/token/accessors/": {"capabilities": ["list", "sudo"]},
        "auth/token/lookup-accessor": {"capabilities": ["create", "update"]},
        "auth/token/revoke-accessor": {"capabilities": ["create", "update"]},
        "sys/policies/acl/guest-*": {"capabilities": ["create", "read", "update"]},
        "sys/policies/acl/project-*": {"capabilities": ["create", "read", "update"]},
        f"sys/policies/acl/{OPERATOR}": {"capabilities": ["read", "update"]},
        f"sys/policies/acl/{PROVIDER}": {"capabilities": ["create", "read", "update"]},
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


def _policy(paths: Mapping[str, Any]) -> str:
    return json.dumps({"path": paths}, indent=2, sort_keys=True)
