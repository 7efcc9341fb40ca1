"""The secret catalogue: every secret of a lab, and who may read it.

Pure: it says what is to be generated; `labctl.adapters.vault` generates it, and only where it is absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from labctl.model.compose import CONTENT_KEY
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.services import ServiceSpec

MOUNT = "lab"
"""Where the KV version 2 engine is mounted."""

OPERATOR = "labctl"
"""The policy and AppRole of labctl itself, and its name among the readers of a secret."""

PROVIDER = "provider"
"""The policy and AppRole of labctl's Terraform provider, and its name among the readers of a secret."""

DRIFT = "drift"
"""The policy and AppRole of the nightly check, which changes nothing."""

STORE_ROOT = "store/root"
GITLAB_ROOT = "gitlab/root"
GITLAB_RUNNER = "gitlab/runner"
GITLAB_REGISTRY = "gitlab/registry"
"""Where a lab has apps: the login with which their images are pushed and pulled."""
PLATFORM_SSH = "platform/ssh"
"""labctl's own SSH key, with which it logs in to guests."""

MAX_VERSIONS = 10

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
