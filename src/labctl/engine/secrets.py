"""The lab's secrets: list, seed, read; and the Vault's own state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.adapters.keys import Keyring
from labctl.adapters.vault import SeedResult, Vault, VaultStatus, seed
from labctl.engine.identity import identities
from labctl.engine.lab import OpenLab
from labctl.engine.status import foundation_outputs
from labctl.engine.steps.vault import open_vault, unseal_vault
from labctl.model.catalogue import catalogue
from labctl.model.errors import UserError, nearest
from labctl.model.projects import project_reader
from labctl.model.secret import Secret


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret as read from the Vault."""

    path: str
    version: int
    data: dict[str, Secret]


def list_secrets(found: OpenLab, named: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """What the catalogue names, with the version that the Vault holds (0: absent), and what else lies there."""
    vault = _vault(found, named)
    try:
        held = {entry.path: entry.version for entry in vault.list_secrets()}
    finally:
        vault.revoke_self()
    specs = {spec.path: spec for spec in catalogue(found.lab)}
    listed = [
        {"path": path, "fields": list(spec.fields), "version": held.get(path, 0), "readers": list(spec.readers)}
        for path, spec in specs.items()
    ]
    extra = [
        {"path": path, "fields": [], "version": held[path], "readers": [reader] if (reader := project_reader(path)) else []}
        for path in sorted(held.keys() - specs.keys())
    ]
    return listed + extra


def seed_secrets(found: OpenLab, named: Sequence[Path] = ()) -> SeedResult:
    """Writes what the catalogue names and the Vault lacks; what is there stays."""
    vault = _vault(found, named)
    try:
        return seed(vault, catalogue(found.lab))
    finally:
        vault.revoke_self()


def get_secret(found: OpenLab, path: str, named: Sequence[Path] = ()) -> SecretValue:
    """One secret.

    Raises:
        UserError: The Vault holds none at `path`; the nearest is named.
    """
    vault = _vault(found, named)
    try:
        held = [entry.path for entry in vault.list_secrets()]
        if path not in held:
            raise UserError(f"there is no secret {path!r}", hint=nearest(path, held))
        version, data = vault.read(path)
    finally:
        vault.revoke_self()
    return SecretValue(path, version, data)


def vault_status(found: OpenLab) -> tuple[str, VaultStatus]:
    """The Vault's address and how it is."""
    vault = _connection(found)
    return vault.address, vault.status()


def unseal(found: OpenLab, named: Sequence[Path] = ()) -> bool:
    """Unseals the Vault; says whether it was sealed."""
    return unseal_vault(_connection(found), Keyring(found.paths.keys), identities(found.paths, named))


def _connection(found: OpenLab) -> Vault:
    return Vault(str(foundation_outputs(found)["vault_address"]), found.paths.authority)


def _vault(found: OpenLab, named: Sequence[Path]) -> Vault:
    return open_vault(_connection(found), Keyring(found.paths.keys), identities(found.paths, named))
