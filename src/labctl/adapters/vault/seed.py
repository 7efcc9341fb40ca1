"""Generates what the catalogue names and is absent. What is there is never written over."""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labctl.adapters.vault._errors import Absent, CasMismatch, Deleted
from labctl.adapters.vault.client import Vault
from labctl.model.catalogue import Generator, SecretSpec
from labctl.model.errors import AdapterError
from labctl.model.secret import Secret

_MOST_TRIES = 20
_ALPHABETS = {
    "password": string.ascii_letters + string.digits,
    "secret_key": string.ascii_letters + string.digits,
    "access_key": string.ascii_uppercase + string.digits,
    "token": "0123456789abcdef",
}


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What seeding did, by path.

    Attributes:
        created: Was absent and was generated.
        completed: Lacked a field that the catalogue names; the others are as they were.
        present: Was there.
        awaited: Absent, and another system issues it.
    """

    created: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret that is as it should be.

    Attributes:
        version: Its version.
        data: Its fields.
        written: Whether it was written just now.
    """

    version: int
    data: Mapping[str, Secret]
    written: bool


def generate(generator: Generator) -> Secret:
    """A new value from the operating system's random source."""
    if generator.kind == "uuid":
        return Secret(str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)))
    alphabet = _ALPHABETS[generator.kind]
    return Secret(generator.prefix + "".join(secrets.choice(alphabet) for _ in range(generator.length)))


def seed(vault: Vault, specs: Sequence[SecretSpec]) -> SeedResult:
    """Writes each secret that is absent, with check-and-set, so that of two that seed at once one wins and the other keeps it.

    Raises:
        UserError: The token may not read or write one of the paths.
        AdapterError: One was deleted by hand; it is not generated anew, because its readers may still have the old value.
    """
    outcome: dict[str, list[str]] = {"created": [], "completed": [], "present": [], "awaited": []}
    for spec in specs:
        outcome[_seed_one(vault, spec)].append(spec.path)
    return SeedResult(**{name: tuple(paths) for name, paths in outcome.items()})


def _seed_one(vault: Vault, spec: SecretSpec) -> str:
    try:
        version, found = vault.read(spec.path)
    except Absent:
        version, found = 0, {}
    missing = {name: generate(generator) for name, generator in spec.generated.items() if name not in found}
    if not missing:
        return "present" if version else "awaited"
    try:
        vault.write(spec.path, {**found, **missing}, cas=version)
    except CasMismatch:
        return "present"
    return "completed" if version else "created"


def keep(vault: Vault, path: str, generated: Mapping[str, Generator], known: Mapping[str, str]) -> Kept:
    """A secret with these fields: what is generated is there from its first version on, what is known follows.

    Of several that do this at once, all get the same values.

    Args:
        vault: Where.
        path: Which.
        generated: How fields come to be that are absent. What is there is never written over.
        known: What other fields say.

    Raises:
        UserError: The token may not read or write it.
        AdapterError: It was deleted by hand (`Deleted`); what is generated is not generated anew.
    """
    for _ in range(_MOST_TRIES):
        try:
            version, found = vault.read(path)
        except Absent:
            version, found = 0, {}
        except Deleted as error:
            if generated:
                raise
            version, found = error.version, {}
        missing = {name: generate(generator) for name, generator in generated.items() if name not in found}
        wanted = {**found, **missing, **{name: Secret(value) for name, value in known.items()}}
        if wanted == found:
            return Kept(version, found, written=False)
        try:
            return Kept(vault.write(path, wanted, cas=version), wanted, written=True)
        except CasMismatch:
            continue
    raise AdapterError(f"secret {path!r} is written by others all the time", where=vault.address, hint="Run it again.")
