"""Provisions for a project, given what it takes: a Vault, an engine, a store. Each looks first, and may be cut off anywhere.

Credentials are in the Vault before the server has them, so that a second run, or another at the same time, gives it the same
ones. What has none is recorded once it is there.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labctl.adapters.compose import ShellError
from labctl.adapters.objectstore import Denied as StoreDenied
from labctl.adapters.vault import Absent, Conflict, Denied, Desired, Vault, bootstrap, keep
from labctl.engine.steps.store import bucket_credentials
from labctl.model import projectsql, projecttopics
from labctl.model.catalogue import ACCESS_KEY, PASSWORD, SECRET_KEY
from labctl.model.errors import AdapterError, LabError, UserError
from labctl.model.projects import Kind, project_approle, project_path, project_policy, project_role
from labctl.model.secret import Secret

if TYPE_CHECKING:
    from labctl.adapters.compose import ComposeEngine
    from labctl.adapters.objectstore import Credentials, ObjectStore
    from labctl.adapters.ollama import Ollama

CONFLICT_S = 20.0
"""How long others may be in the way who write the same at the same moment."""

Tell = Callable[[str], None]

STORE_S = 120.0
"""How long the store may take to answer after a restart."""


@dataclass(frozen=True, slots=True)
class Result:
    """What there is now.

    Attributes:
        kind: What was provisioned.
        name: Its name.
        path: Where it is kept in the Vault.
        changes: What was done, a line each; none where all was there.
        facts: What a project needs to know besides its credentials.
        role: The AppRole that reads the credentials; "" where there are none.
        credentials: All that the Vault keeps of it, where it has credentials.
    """

    kind: Kind
    name: str
    path: str
    changes: tuple[str, ...]
    facts: Mapping[str, str | int]
    role: str = ""
    credentials: Mapping[str, Secret] = field(default_factory=dict)


def require_running(engine: ComposeEngine, name: str) -> None:
    """Refuses a service that is not there to be spoken to.

    Raises:
        UserError: It is not up, or its container is not healthy.
    """
    service = engine.found(name).services.get(name)
    if service is None:
        raise UserError(f"service {name} is not up", hint="`labctl up --layer services` brings it up.")
    how = service.health if service.state == "running" else service.state
    if service.state != "running" or service.health in ("starting", "unhealthy"):
        raise UserError(
            f"service {name} is {how}",
            hint=f"`labctl logs {name}` says why, `labctl up --layer services` brings it up. Nothing was changed.",
        )


def grant(vault: Vault, kind: Kind, name: str) -> tuple[str, ...]:
    """Lets a project read its credentials, and nothing else; returns what was changed.

    Raises:
        UserError: labctl itself may not do that yet.
    """
    desired = Desired({project_role(kind, name): project_policy(kind, name)}, (project_approle(kind, name),))
    deadline = time.monotonic() + CONFLICT_S
    while True:
        try:
            return bootstrap(vault, desired)
        except Conflict:
            if time.monotonic() > deadline:
                raise
            time.sleep(secrets.randbelow(100) / 1000)
        except Denied as error:
            raise UserError(
                error.message,
                where=error.where,
                hint="`labctl up --layer foundation` gives labctl the rights that this version needs.",
            ) from error


def is_known(vault: Vault, path: str) -> bool:
    """Whether the Vault keeps anything there.

    Raises:
        AdapterError: It was deleted by hand.
    """
    try:
        vault.read(path)
    except Absent:
        return False
    return True


# --- PostgreSQL


@dataclass(frozen=True, slots=True)
class Server:
    """Where clients reach a service.

    Attributes:
        host: Its host.
        port: Its port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def ensure_database(vault: Vault, engine: ComposeEngine, user: str, database: str, superuser: str, server: Server) -> Result:
    """A user and its database. The names were checked.

    Raises:
        UserError: The service is not up, or the role or database is somebody else's.
        AdapterError: The server says no.
    """
    require_running(engine, "postgres")
    path = project_path("postgres", user)
    command = projectsql.psql(superuser, user, database)
    # The server first: whoever made the role has written into the Vault before.
    there = projectsql.found(_psql(engine, command, projectsql.LOOK))
    projectsql.require_ours(there, user, database, known=is_known(vault, path))
    # Before anything is made: a labctl that may not do it leaves nothing behind.
    granted = grant(vault, "postgres", user)
    known = {"user": user, "host": server.host, "port": str(server.port)}
    kept = keep(vault, path, {"password": PASSWORD}, known)
    verifier = projectsql.scram_verifier(kept.data["password"], os.urandom(projectsql.SALT_BYTES))
    made = projectsql.made(_psql(engine, command, projectsql.MAKE, {projectsql.VERIFIER: verifier}))
    projectsql.require_owner(made.owner, user, database)
    url = f"postgresql://{user}@{server}/{database}"
    keep(vault, project_path("postgres", user, database), {}, {"database": database, "url": url})
    changes = [
        *([f"role {user} made"] if made.role else []),
        *([f"database {database} made"] if made.database else []),
        *granted,
    ]
    facts = {"url": url, "database": database}
    return Result("postgres", user, path, tuple(changes), facts, project_role("postgres", user), kept.data)


def _psql(engine: ComposeEngine, command: Sequence[str], sql: str, env: Mapping[str, Secret] | None = None) -> str:
    try:
        return engine.execute("postgres", "postgres", command, stdin=sql, env=env)
    except ShellError as error:
        raise AdapterError(
            f"PostgreSQL says: {error.message}",
            where=error.where,
            hint=error.hint or "`labctl logs postgres` may say more. Run it again: it goes on where it was.",
        ) from error


# --- Kafka


def ensure_topic(
    vault: Vault,
    engine: ComposeEngine,
    topic: str,
    server: Server,
    *,
    partitions: int | None = None,
    group: str = "",
    more: bool = False,
) -> Result:
    """A topic, and a consumer group that begins at its beginning. The names were checked.

    Args:
        vault: Where it is recorded.
        engine: Where Kafka runs.
        topic: The topic.
        server: Where clients reach Kafka.
        partitions: How many it is to have; None for what there are, or the broker's own number.
        group: A consumer group; "" for none.
        more: Whether a topic that is there may get more partitions.

    Raises:
        UserError: The service is not up, or the topic has another number of partitions.
        AdapterError: Kafka says no, or does not answer.
    """
    require_running(engine, "kafka")
    changes = []
    found = _partitions(engine, topic)
    if not found:
        made = projecttopics.was_created(_kafka(engine, projecttopics.create(topic, partitions)))
        changes += [f"topic {topic} made"] if made else []
        # Somebody else may have made it a moment ago, with another number.
        found = partitions if made and partitions else _partitions(engine, topic)
    if to_make := projecttopics.partitions_to_make(found, partitions, topic, more=more):
        _kafka(engine, projecttopics.grow(topic, to_make))
        changes.append(f"topic {topic} has {to_make} partitions now, {to_make - found} more")
        found = to_make
    if group:
        changes += _begin(engine, group, topic, found)
    path = project_path("kafka", topic)
    keep(vault, path, {}, {"topic": topic, "bootstrap": str(server)})
    if group:
        kept = keep(vault, project_path("kafka", topic, group), {}, {"group": group})
        changes += [f"consumer group {group} recorded"] if kept.written else []
    return Result("kafka", topic, path, tuple(changes), {"bootstrap": str(server), "partitions": found})


def _partitions(engine: ComposeEngine, topic: str) -> int:
    return projecttopics.partitions_of(_kafka(engine, projecttopics.describe(topic)), topic)


def _begin(engine: ComposeEngine, group: str, topic: str, partitions: int) -> list[str]:
    """Puts a group that nobody consumes in at the beginning, where it has no place yet."""
    said = _kafka(engine, projecttopics.describe_group(group))
    wrong = projecttopics.group_problem(said)
    if wrong and not projecttopics.no_such_group(wrong):
        raise _kafka_error(wrong)
    offsets = projecttopics.offsets_of(said, topic)
    missing = sorted(set(range(partitions)) - offsets.committed)
    if offsets.active or not missing:
        return []
    wrong = projecttopics.group_problem(_kafka(engine, projecttopics.begin(group, topic, missing)))
    if projecttopics.in_use(wrong):
        return []
    if wrong:
        raise _kafka_error(wrong)
    return [f"consumer group {group} begins at the beginning of {topic}"]


def _kafka(engine: ComposeEngine, command: Sequence[str]) -> str:
    try:
        return engine.execute("kafka", "kafka", command, stdin=projecttopics.SETTINGS)
    except ShellError as error:
        raise _kafka_error(projecttopics.problem(error.message)) from error


def _kafka_error(said: str) -> AdapterError:
    hint = "`labctl logs kafka` may say more. Run it again: it goes on where it was."
    return AdapterError(f"Kafka says: {said}", where="service kafka", hint=hint)


# --- Ollama


def ensure_model(vault: Vault, ollama: Ollama, model: str, tell: Tell) -> Result:
    """A model, fetched where Ollama does not have it. The name was checked.

    Raises:
        UserError: There is no such model.
        AdapterError: Ollama cannot be reached, or cannot fetch it.
    """
    changes = []
    if model not in ollama.models():
        ollama.pull(model, tell)
        changes.append(f"model {model} fetched")
    path = project_path("ollama", model)
    keep(vault, path, {}, {"model": model, "url": ollama.url})
    return Result("ollama", model, path, tuple(changes), {"url": ollama.url})


# --- buckets


@dataclass(frozen=True, slots=True)
class Store:
    """The object store, as far as a bucket needs it.

    Attributes:
        as_pair: The store with a key pair.
        root: Its administrator's.
        alone: Keeps others away while credentials are delivered.
        deliver: Delivers the credentials that the Vault has now, and starts the store again where they differ.
        endpoint: Its URL.
        region: Its region.
    """

    as_pair: Callable[[Credentials], ObjectStore]
    root: Credentials
    alone: Callable[[], AbstractContextManager[None]]
    deliver: Callable[[], bool]
    endpoint: str
    region: str


def ensure_bucket(vault: Vault, store: Store, bucket: str, *, patience_s: float = STORE_S) -> Result:
    """A bucket with a key pair of its own. The name was checked.

    Raises:
        UserError: The bucket is somebody else's.
        AdapterError: The store cannot be reached.
    """
    path = project_path("bucket", bucket)
    root = store.as_pair(store.root)
    there = bucket in root.buckets()
    # The store first: whoever made the bucket has written into the Vault before.
    if not is_known(vault, path) and there:
        raise UserError(
            f"bucket {bucket!r} is there already, and was not provisioned",
            where=store.endpoint,
            hint="Choose another name. labctl takes over no bucket; one of the lab's own belongs under foundation.store.buckets.",
        )
    granted = grant(vault, "bucket", bucket)
    known = {"bucket": bucket, "endpoint": store.endpoint, "region": store.region}
    kept = keep(vault, path, {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}, known)
    own = store.as_pair(bucket_credentials(vault, path))
    changes = [] if there and _answers(own) else _make_bucket(store, root, own, bucket, patience_s)
    facts = {"endpoint": store.endpoint, "region": store.region}
    return Result("bucket", bucket, path, (*changes, *granted), facts, project_role("bucket", bucket), kept.data)


def _make_bucket(store: Store, root: ObjectStore, own: ObjectStore, bucket: str, patience_s: float) -> list[str]:
    changes = []
    with store.alone():
        # Not by asking with the pair: the store writes the name of one that it does not know into its log.
        if store.deliver():
            changes.append("the object store's credentials delivered")
        root.wait_ready(patience_s)
        if root.ensure_bucket(bucket, versioned=False):
            changes.append(f"bucket {bucket} made")
        own.wait_ready(patience_s)
    return changes


def _answers(own: ObjectStore) -> bool:
    """Whether the store knows a key pair."""
    try:
        own.buckets()
    except StoreDenied:
        return False
    except LabError:
        # It does not serve: a delivery starts it.
        return False
    return True
