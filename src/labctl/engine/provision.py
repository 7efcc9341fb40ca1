"""`labctl provision`: databases, topics, models and buckets for projects outside of the lab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labctl.adapters.ollama import Ollama
from labctl.adapters.vault import Vault
from labctl.engine import provisioning
from labctl.engine.dockerguest import docker_engine
from labctl.engine.guestcall import call_guest
from labctl.engine.journal import lab_lock
from labctl.engine.lab import OpenLab
from labctl.engine.paths import private_files
from labctl.engine.provisioning import Result, Server, Store, Tell
from labctl.engine.session import LabSession, remote_state
from labctl.engine.status import foundation_outputs, lab_session
from labctl.engine.steps.store import deliver_credentials, store_access
from labctl.model.errors import UserError
from labctl.model.guestfiles import STORE
from labctl.model.projects import (
    FOLDER,
    GROUP,
    PROJECT_WRAPPING_TTL_S,
    Entry,
    Provisioned,
    checked,
    checked_bucket,
    checked_database,
    checked_model,
    checked_topic,
    checked_user,
    provisioned,
)
from labctl.model.projecttopics import MOST_PARTITIONS
from labctl.model.secret import Secret
from labctl.model.services import PostgresService, Service

LOCK_PATIENCE_S = 120.0
"""How long a bucket waits for another run, which may be another bucket's: the store is stopped for a moment."""


def provision_postgres(found: OpenLab, user: str, database: str, named: Sequence[Path] = ()) -> Result:
    """A user of PostgreSQL and its database.

    Raises:
        UserError: A name may not be taken, or the service is off or not up.
        LabError: The Vault, the guest or the server cannot be reached.
    """
    checked_user(found.lab, user)
    checked_database(found.lab, database)
    settings = _settings(found, "postgres")
    assert isinstance(settings, PostgresService)
    with _session(found, named) as session:
        server = _server(found, session, "postgres")
        with docker_engine(found, named) as engine:
            return provisioning.ensure_database(session.vault, engine, user, database, settings.superuser, server)


def provision_kafka(
    found: OpenLab,
    topic: str,
    named: Sequence[Path] = (),
    *,
    partitions: int | None = None,
    group: str = "",
    more: bool = False,
) -> Result:
    """A topic of Kafka, with a consumer group where one is named.

    Raises:
        UserError: A name may not be taken, the service is off or not up, or the topic has another number of partitions.
        LabError: The Vault, the guest or Kafka cannot be reached.
    """
    checked_topic(topic)
    if group:
        checked(GROUP, group)
    if partitions is not None and not 1 <= partitions <= MOST_PARTITIONS:
        raise UserError(f"a topic cannot have {partitions} partitions", hint=f"Take a number from 1 to {MOST_PARTITIONS}.")
    _settings(found, "kafka")
    with _session(found, named) as session:
        server = _server(found, session, "kafka")
        with docker_engine(found, named) as engine:
            return provisioning.ensure_topic(session.vault, engine, topic, server, partitions=partitions, group=group, more=more)


def provision_ollama(found: OpenLab, model: str, named: Sequence[Path] = (), tell: Tell = lambda _text: None) -> Result:
    """A model of Ollama.

    Raises:
        UserError: The name is none, there is no such model, or the service is off or not up.
        LabError: The Vault or Ollama cannot be reached.
    """
    full = checked_model(model)
    _settings(found, "ollama")
    with _session(found, named) as session:
        ollama = Ollama(str(_endpoint(found, session, "ollama")["url"]))
        try:
            return provisioning.ensure_model(session.vault, ollama, full, tell)
        finally:
            ollama.close()


def provision_bucket(found: OpenLab, name: str, named: Sequence[Path] = (), tell: Tell = lambda _text: None) -> Result:
    """A bucket with a key pair of its own. The object store is started again where it does not know that yet.

    Raises:
        UserError: The name may not be taken, the bucket is somebody else's, or another run holds the lab for long.
        LabError: The Vault, the hypervisor or the store cannot be reached.
    """
    checked_bucket(found.lab, name)
    with _session(found, named) as session:
        access = store_access(session.vault, found.lab)
        store = Store(
            as_pair=partial(_object_store, session),
            root=access.root,
            alone=lambda: _alone(found),
            deliver=lambda: _deliver(found, session.vault, tell),
            endpoint=session.endpoint,
            region=session.region,
        )
        return provisioning.ensure_bucket(session.vault, store, name)


def list_provisioned(found: OpenLab, named: Sequence[Path] = ()) -> tuple[Provisioned, ...]:
    """What was provisioned. No value is read."""
    with _session(found, named) as session:
        entries = session.vault.list_secrets(f"{FOLDER}/")
    return provisioned(Entry(entry.path, entry.updated, entry.deleted) for entry in entries)


@dataclass(frozen=True, slots=True)
class Login:
    """With what a project logs in to the Vault.

    Attributes:
        role_id: Whom as. By itself it opens nothing.
        token: Unwraps the secret-id, once.
        ttl_s: How long that works, in seconds.
        address: The Vault's address.
    """

    role_id: Secret
    token: Secret
    ttl_s: int
    address: str


def project_login(found: OpenLab, role: str, named: Sequence[Path] = ()) -> Login:
    """A new secret-id of a project's AppRole, wrapped. Those that were handed out before go on working."""
    with _session(found, named) as session:
        vault = session.vault
        token = vault.wrapped_secret_id(role, PROJECT_WRAPPING_TTL_S)
        return Login(vault.role_id(role), token, PROJECT_WRAPPING_TTL_S, vault.address)


# ----------------------------------------------------------------------------------------------------------------------


def _settings(found: OpenLab, name: str) -> Service:
    """The settings of a service that is on.

    Raises:
        UserError: It is off.
    """
    settings = found.lab.services.on().get(name)
    if settings is None:
        raise UserError(
            f"service {name} is off",
            where=found.paths.file.name,
            hint=f"Write `{name}: {{}}` under services, and `labctl up --layer services` brings it up.",
        )
    if name not in {spec.name for spec in found.lab.service_specs()}:
        raise UserError(
            "guest docker is an appliance of the sandbox, which runs no services",
            hint="On a machine with a Docker engine, `labctl sandbox reset` and `labctl up` make guests that boot.",
        )
    return settings


@contextmanager
def _session(found: OpenLab, named: Sequence[Path]) -> Iterator[LabSession]:
    session = lab_session(found, foundation_outputs(found), named)
    try:
        yield session
    finally:
        session.close()


def _endpoint(found: OpenLab, session: LabSession, name: str) -> dict[str, Any]:
    """Where a service is, as its layer published it.

    Raises:
        UserError: It is not up.
    """
    outputs = remote_state(session, found.paths, "services").outputs or {}
    endpoint = outputs.get("endpoints", {}).get(name)
    if endpoint is None:
        raise UserError(f"service {name} is not up", hint="`labctl up --layer services` brings it up.")
    return dict(endpoint)


def _server(found: OpenLab, session: LabSession, name: str) -> Server:
    parts = urlsplit(f"//{_endpoint(found, session, name)['address']}")
    return Server(str(parts.hostname), int(parts.port or 0))


def _object_store(session: LabSession, pair: Any) -> Any:
    from labctl.adapters.objectstore import ObjectStore

    return ObjectStore(session.endpoint, session.region, pair.access_key, pair.secret_key, session.ca_file)


def _deliver(found: OpenLab, vault: Vault, tell: Tell) -> bool:
    """Delivers the credentials that the Vault has now: another bucket may have come meanwhile."""
    access = store_access(vault, found.lab)
    with call_guest(found, STORE.name) as guest:
        return deliver_credentials(guest.hypervisor, guest.spec, guest.output(guest.address()), access.identities, tell)


@contextmanager
def _alone(found: OpenLab) -> Iterator[None]:
    """Holds the lab as a run does, since the store goes away for a moment; waits for one that holds it."""
    found.paths.create()
    with private_files(), lab_lock(found.paths, "provision bucket", LOCK_PATIENCE_S):
        yield
