"""`labctl provision`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli._completion import app_topics
from labctl.cli._options import IdentityOption, JsonOption, LabOption

if TYPE_CHECKING:
    from labctl.engine.lab import OpenLab
    from labctl.engine.provision import Login
    from labctl.engine.provisioning import Result

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Databases, topics, models and buckets for projects outside of the lab.",
)

ShowOption = Annotated[bool, typer.Option("--show", help="Print the credentials in clear.")]
LoginOption = Annotated[
    bool, typer.Option("--login", help="Print a one-time token, with which the project gets a login to the Vault.")
]


@app.command()
def postgres(
    user: Annotated[str, typer.Option("--user", "-u", metavar="USER", help="The user of PostgreSQL.")],
    database: Annotated[str, typer.Option("--database", "-d", metavar="DATABASE", help="A database that is the user's own.")],
    show: ShowOption = False,
    login: LoginOption = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """A user of PostgreSQL with a database."""
    from labctl.engine.lab import open_lab
    from labctl.engine.provision import provision_postgres

    found, named = open_lab(lab), tuple(identity or ())
    return _end(found, named, provision_postgres(found, user, database, named), show=show, login=login, as_json=as_json)


@app.command()
def kafka(
    topic: Annotated[str, typer.Option("--topic", "-t", metavar="TOPIC", help="The topic.", autocompletion=app_topics)],
    partitions: Annotated[
        int | None, typer.Option("--partitions", metavar="N", help="How many partitions. [default: services.kafka.partitions]")
    ] = None,
    group: Annotated[
        str, typer.Option("--group", "-g", metavar="GROUP", help="A consumer group, from the first record on.")
    ] = "",
    more: Annotated[bool, typer.Option("--more", help="Give a topic that is there more partitions.")] = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """A topic of Kafka, and a consumer group."""
    from labctl.engine.lab import open_lab
    from labctl.engine.provision import provision_kafka

    found, named = open_lab(lab), tuple(identity or ())
    result = provision_kafka(found, topic, named, partitions=partitions, group=group, more=more)
    return _end(found, named, result, as_json=as_json)


@app.command()
def ollama(
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="The model, as NAME or NAME:TAG.")],
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """A model of Ollama."""
    from labctl.engine.lab import open_lab
    from labctl.engine.provision import provision_ollama

    found, named = open_lab(lab), tuple(identity or ())
    return _end(found, named, provision_ollama(found, model, named, _progress), as_json=as_json)


@app.command()
def bucket(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bucket.")],
    show: ShowOption = False,
    login: LoginOption = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """A bucket of the object store, with a key pair of its own."""
    from labctl.engine.lab import open_lab
    from labctl.engine.provision import provision_bucket

    found, named = open_lab(lab), tuple(identity or ())
    return _end(found, named, provision_bucket(found, name, named, _progress), show=show, login=login, as_json=as_json)


@app.command("list")
def list_(identity: IdentityOption = None, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """List what was provisioned; never a value."""
    from labctl.engine.lab import open_lab
    from labctl.engine.provision import list_provisioned

    found = list_provisioned(open_lab(lab), tuple(identity or ()))
    if as_json:
        print(json.dumps({"provisioned": [entry.as_dict() for entry in found]}, indent=2))
        return 0
    for entry in found:
        about = "deleted in the Vault" if entry.deleted else ", ".join(entry.parts)
        print(f"{entry.kind:<9} {entry.name:<24} {about:<24} {entry.path}".rstrip())
    if not found:
        print("Nothing was provisioned yet.")
    return 0


def _progress(text: str) -> None:
    import sys

    print(text, file=sys.stderr)


def _end(found: OpenLab, named: Sequence[Path], result: Result, *, show: bool = False, login: bool = False, as_json: bool) -> int:
    handed: Login | None = None
    if login:
        from labctl.engine.provision import project_login

        handed = project_login(found, result.role, named)
    clear = {name: value.reveal() for name, value in result.credentials.items()} if show else None
    if as_json:
        print(json.dumps(_document(result, clear, handed), indent=2))
        return 0
    for change in result.changes:
        print(change)
    if not result.changes:
        print("Nothing to do: all of it is there.")
    for fact, value in result.facts.items():
        print(f"{fact}: {value}")
    if result.role:
        print(f"credentials: {result.path} in the Vault; `labctl secrets get {result.path}` prints them")
        print(f"AppRole {result.role} may read them, and nothing else; --login prints a one-time token for it")
    for name, value in (clear or {}).items():
        print(f"{name} = {value}")
    if handed is not None:
        print(f"vault = {handed.address}\nrole_id = {handed.role_id.reveal()}")
        print(f"wrapping_token = {handed.token.reveal()}")
        print(f"The token works once, within {handed.ttl_s // 60} minutes; docs/provision.md tells what to do with it.")
    return 0


def _document(result: Result, clear: dict[str, str] | None, handed: Login | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "kind": result.kind,
        "name": result.name,
        "path": result.path,
        "role": result.role,
        "changes": list(result.changes),
        **result.facts,
    }
    if clear is not None:
        document["credentials"] = clear
    if handed is not None:
        document["login"] = {
            "vault": handed.address,
            "role_id": handed.role_id.reveal(),
            "wrapping_token": handed.token.reveal(),
            "ttl_s": handed.ttl_s,
        }
    return document
