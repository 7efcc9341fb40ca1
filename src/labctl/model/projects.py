"""What labctl provisions for projects outside of the lab: names, where it is kept in the Vault, and who may read it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from labctl.model.catalogue import MOUNT
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.services import MlflowService, PostgresService
from labctl.model.vaultroles import MAX_WRAPPING_TTL_S, RoleSpec

Kind = Literal["postgres", "kafka", "ollama", "bucket"]

FOLDER = "projects"
"""Where in the KV mount all of it lies: `projects/<kind>/<name>`, and `projects/<kind>/<name>/<part>`."""

WITH_CREDENTIALS: tuple[Kind, ...] = ("postgres", "bucket")
"""What has credentials, and so a policy and an AppRole by which a project reads them."""

PARTS: Mapping[str, str] = {"postgres": "databases", "kafka": "groups"}
"""What a name of this kind has several of."""

_KINDS: tuple[Kind, ...] = ("postgres", "kafka", "ollama", "bucket")

PROJECT_SECRET_ID_TTL_S = 30 * 24 * 3600
PROJECT_TOKEN_TTL_S = 3600
PROJECT_WRAPPING_TTL_S = MAX_WRAPPING_TTL_S
"""How long a project has to unwrap its secret-id."""


@dataclass(frozen=True, slots=True)
class NameRule:
    """What a name may be.

    Attributes:
        what: What it is the name of.
        pattern: All of it.
        allowed: The pattern in words.
        longest: Characters.
        filler: What stands for a character that is not allowed, in a name that is suggested.
        small: Whether it has no capitals.
    """

    what: str
    pattern: str
    allowed: str
    longest: int
    filler: str = "_"
    small: bool = True

    def fits(self, name: str) -> bool:
        """Whether this is such a name."""
        return len(name) <= self.longest and re.fullmatch(self.pattern, name) is not None

    def suggested(self, name: str) -> str:
        """The nearest name that fits; "" where nothing of it is left."""
        text = name.lower() if self.small else name
        text = re.sub(r"[^A-Za-z0-9]+", self.filler, text).strip("_-")[: self.longest].strip("_-")
        for candidate in (text, f"p{self.filler}{text}"[: self.longest].strip("_-")):
            if text and self.fits(candidate):
                return candidate
        return ""


_SQL = "lower-case letters, digits and _, no digit first, 63 characters at most"
_TOPIC = "letters, digits, '.', '_' and '-', a letter, a digit or _ first, no two dots in a row, 249 characters at most"
_PLAIN = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.))*"

USER = NameRule("a user of PostgreSQL", r"[a-z_][a-z0-9_]*", _SQL, 63)
DATABASE = NameRule("a database of PostgreSQL", r"[a-z_][a-z0-9_]*", _SQL, 63)
TOPIC = NameRule("a topic of Kafka", _PLAIN, _TOPIC, 249, filler="-", small=False)
GROUP = NameRule("a consumer group of Kafka", _PLAIN, _TOPIC, 249, filler="-", small=False)
MODEL = NameRule(
    "a model of Ollama",
    rf"(?:{_PLAIN}(?::[0-9]{{1,5}})?/)?(?:{_PLAIN}/){{0,2}}{_PLAIN}(?::{_PLAIN})?",
    "as in llama3.2, llama3.2:1b or hf.co/owner/model:tag",
    300,
    filler="-",
    small=False,
)
BUCKET = NameRule(
    "a bucket",
    r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
    "lower-case letters, digits and -, a letter or digit first and last, 3 to 63 characters",
    63,
    filler="-",
)


def checked(rule: NameRule, name: str, reserved: Mapping[str, str] | None = None) -> str:
    """The name, where it may be taken.

    Args:
        rule: What it may be.
        name: The name.
        reserved: Names that are somebody's, each with whose.

    Raises:
        UserError: It may not.
    """
    if not rule.fits(name):
        near = rule.suggested(name)
        example = f" For example {near!r}." if near else ""
        raise UserError(f"{name!r} is no name for {rule.what}", hint=f"Allowed: {rule.allowed}.{example}")
    if name in (reserved or {}):
        raise UserError(f"{name!r} is {(reserved or {})[name]}", hint="Choose another name.")
    return name


def checked_user(lab: Lab, name: str) -> str:
    """As `checked`, for a user of PostgreSQL."""
    if name.startswith("pg_"):
        raise UserError(f"{name!r} is a name that PostgreSQL keeps for itself", hint="Choose one that does not begin with pg_.")
    own = dict.fromkeys(("public", "none", "current_role", "current_user", "session_user"), "a word that PostgreSQL takes else")
    return checked(USER, name, {**own, **_superuser(lab), **_of_mlflow(lab, "MLflow's own user")})


def checked_database(lab: Lab, name: str) -> str:
    """As `checked`, for a database of PostgreSQL."""
    own = dict.fromkeys(("postgres", "template0", "template1"), "a database that PostgreSQL comes with")
    return checked(DATABASE, name, {**own, **_of_mlflow(lab, "MLflow's own database")})


def checked_topic(name: str) -> str:
    """As `checked`, for a topic of Kafka."""
    if name.startswith("__"):
        raise UserError(f"{name!r} is a name that Kafka keeps for itself", hint="Choose one that does not begin with __.")
    return checked(TOPIC, name)


def checked_model(name: str) -> str:
    """As `checked`, for a model of Ollama: its name with its tag."""
    checked(MODEL, name)
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def checked_bucket(lab: Lab, name: str) -> str:
    """As `checked`, for a bucket."""
    own = {
        bucket: f"the lab's own bucket (`foundation.store.buckets`), whose credentials are store/{bucket}"
        for bucket in lab.foundation.store.buckets
    }
    return checked(BUCKET, name, own)


def _superuser(lab: Lab) -> dict[str, str]:
    settings = lab.services.postgres
    names = {"postgres", settings.superuser} if isinstance(settings, PostgresService) else {"postgres"}
    return dict.fromkeys(names, "PostgreSQL's superuser")


def _of_mlflow(lab: Lab, whose: str) -> dict[str, str]:
    settings = lab.services.mlflow
    return {settings.database: whose} if isinstance(settings, MlflowService) else {}


def project_path(kind: Kind, name: str, part: str = "") -> str:
    """Where it is kept in the KV mount."""
    return "/".join(filter(None, (FOLDER, kind, name, part)))


def project_role(kind: Kind, name: str) -> str:
    """The AppRole by which a project reads these credentials, which is the name of its policy too."""
    return f"project-{kind}-{name}"


def project_policy(kind: Kind, name: str) -> str:
    """Reads these credentials, and nothing else. JSON, which the server reads as HCL."""
    path = project_path(kind, name)
    rules = {f"{MOUNT}/data/{path}": {"capabilities": ["read"]}}
    if kind in PARTS:
        rules |= {
            f"{MOUNT}/data/{path}/+": {"capabilities": ["read"]},
            f"{MOUNT}/metadata/{path}/": {"capabilities": ["list"]},
        }
    return json.dumps({"path": rules}, indent=2, sort_keys=True)


def project_approle(kind: Kind, name: str) -> RoleSpec:
    """The AppRole. A project logs in whenever it starts, so that its secret-id works more than once."""
    role = project_role(kind, name)
    return RoleSpec(role, policies=(role,), secret_id_ttl_s=PROJECT_SECRET_ID_TTL_S, token_ttl_s=PROJECT_TOKEN_TTL_S)


def project_reader(path: str) -> str:
    """The AppRole that reads what lies at a path; "" where none does."""
    folder, _, rest = path.partition("/")
    kind, _, name = rest.partition("/")
    known: Kind | None = next((one for one in WITH_CREDENTIALS if one == kind), None)
    if folder != FOLDER or known is None or not name:
        return ""
    return project_role(known, name.partition("/")[0])


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that the Vault keeps, without its values.

    Attributes:
        path: Where.
        updated: When it was last written, as the Vault writes it.
        deleted: Whether its newest version was deleted.
    """

    path: str
    updated: str
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Something that was provisioned.

    Attributes:
        kind: What it is.
        name: Its name: a user, a topic, a model, a bucket.
        path: Where it is kept in the Vault.
        parts: The databases of a user, the consumer groups of a topic.
        updated: When it was last written.
        deleted: Whether its credentials were deleted by hand.
    """

    kind: Kind
    name: str
    path: str
    parts: tuple[str, ...] = ()
    updated: str = ""
    deleted: bool = False

    @property
    def role(self) -> str:
        """The AppRole that reads its credentials; "" where it has none."""
        return project_reader(self.path)

    def as_dict(self) -> dict[str, Any]:
        """As `labctl provision list --json` prints it."""
        parts = {PARTS[self.kind]: list(self.parts)} if self.kind in PARTS else {}
        common = {"kind": self.kind, "name": self.name, **parts, "path": self.path, "role": self.role}
        return {**common, "updated": self.updated, "deleted": self.deleted}


def provisioned(entries: Iterable[Entry]) -> tuple[Provisioned, ...]:
    """What was provisioned, from what the Vault keeps under `projects/`. What no command of labctl's has written is left out."""
    named: dict[tuple[Kind, str], Entry] = {}
    parts: dict[tuple[Kind, str], list[str]] = {}
    for entry in entries:
        folder, _, rest = entry.path.partition("/")
        word, _, name = rest.partition("/")
        kind: Kind | None = next((one for one in _KINDS if one == word), None)
        if folder != FOLDER or kind is None or not name:
            continue
        head, _, tail = name.partition("/")
        if kind in PARTS and tail:
            if not entry.deleted:
                parts.setdefault((kind, head), []).append(tail)
        else:
            named[kind, name] = entry
    return tuple(
        Provisioned(kind, name, entry.path, tuple(sorted(parts.get((kind, name), []))), entry.updated, entry.deleted)
        for (kind, name), entry in sorted(named.items(), key=lambda item: (_KINDS.index(item[0][0]), item[0][1]))
    )
