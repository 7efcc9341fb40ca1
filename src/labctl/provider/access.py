"""What the provider reaches, from its configuration and its environment: the Docker engine, and the Vault."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.adapters.compose import ComposeEngine, LocalShell, Shell, SshShell
from labctl.model.catalogue import generated_fields
from labctl.model.compose import CONTENT_KEY, RegistryLogin
from labctl.model.errors import AdapterError, LabError, UserError, nearest
from labctl.model.secret import Secret

if TYPE_CHECKING:
    from labctl.adapters.vault import Vault

SSH_PRIVATE_KEY = "LABCTL_SSH_PRIVATE_KEY"
SSH_KNOWN_HOSTS = "LABCTL_SSH_KNOWN_HOSTS"
SSH_HOST_ALIAS = "LABCTL_SSH_HOST_ALIAS"
VAULT_ADDR, VAULT_TOKEN, VAULT_CACERT = "VAULT_ADDR", "VAULT_TOKEN", "VAULT_CACERT"

PATIENCE_S = 30.0
"""After a reboot, a guest answers before its engine does."""

REFERENCE = re.compile(r"[^#]+#[^#]+")
"""How a secret is named: `path#field`."""

_HINT = "`labctl env -- COMMAND` sets it for a plain terraform or cdktf."


class Engines:
    """The engines by address; each has one connection, which all Terraforms that attach share."""

    def __init__(self) -> None:
        self._known: dict[str, ComposeEngine] = {}
        self._lock = threading.Lock()

    def at(self, docker_host: str) -> ComposeEngine:
        """The engine at an address, as `DOCKER_HOST` has it; "" for the one of this machine.

        Raises:
            UserError: The address is none, or what SSH needs is not in the environment.
        """
        with self._lock:
            if docker_host not in self._known:
                self._known[docker_host] = ComposeEngine(_shell(docker_host))
            return self._known[docker_host]

    def close(self) -> None:
        """Ends all connections."""
        with self._lock:
            for engine in self._known.values():
                engine.close()
            self._known.clear()


def _shell(docker_host: str) -> Shell:
    if not docker_host.startswith("ssh://"):
        return LocalShell(docker_host)
    key, known_hosts = os.environ.get(SSH_PRIVATE_KEY), os.environ.get(SSH_KNOWN_HOSTS)
    if not key or not known_hosts:
        raise UserError(f"{SSH_PRIVATE_KEY} or {SSH_KNOWN_HOSTS} is not set", where=docker_host, hint=_HINT)
    alias = os.environ.get(SSH_HOST_ALIAS, "")
    return SshShell(docker_host, key=Secret(key), known_hosts=Path(known_hosts), host_alias=alias, patience_s=PATIENCE_S)


class BadReference(UserError):
    """A reference names no secret, and none that labctl is about to make.

    Args:
        message: What is wrong.
        variable: Whose reference it is.
        hint: What to do.
    """

    def __init__(self, message: str, *, variable: str, hint: str) -> None:
        super().__init__(message, where=variable, hint=hint)
        self.variable = variable


def read_secrets(references: Mapping[str, str]) -> tuple[dict[str, Secret], Secret | None]:
    """The values of references `path#field`, by variable, and the key of the hashes of contents.

    Raises:
        BadReference: A reference is malformed or names nothing.
        UserError: The Vault is not in the environment.
        LabError: The Vault is sealed, out of reach, or refuses; or it lacks what labctl is to generate there.
    """
    from labctl.adapters.vault import Vault

    if not references:
        return {}, None
    address, token, authority = (os.environ.get(name, "") for name in (VAULT_ADDR, VAULT_TOKEN, VAULT_CACERT))
    if not address or not token or not authority:
        raise UserError(f"{VAULT_ADDR}, {VAULT_TOKEN} or {VAULT_CACERT} is not set", hint=_HINT)
    vault = Vault(address, Path(authority), Secret(token))
    known: dict[str, dict[str, Secret]] = {}
    found: dict[str, Secret] = {}
    for variable, reference in {**references, "": f"{CONTENT_KEY}#key"}.items():
        path, _, name = reference.partition("#")
        if not REFERENCE.fullmatch(reference):
            raise BadReference(f"{reference!r} is no reference to a secret", variable=variable, hint="Write path#field.")
        if path not in known:
            known[path] = _fields(vault, path, name, variable)
        if name not in known[path]:
            raise _absent(f"secret {path} has no field {name!r}", path, name, variable, nearest(name, known[path]))
        found[variable] = known[path][name]
    return found, found.pop("")


def registry_logins(paths: Mapping[str, str]) -> tuple[RegistryLogin, ...]:
    """The credentials of registries, by host, from fields `username` and `token` of their secrets.

    Raises:
        LabError: As `read_secrets`.
    """
    references = {f"{host} {name}": f"{path}#{name}" for host, path in paths.items() for name in ("username", "token")}
    values, _key = read_secrets(references)
    return tuple(RegistryLogin(host, values[f"{host} username"], values[f"{host} token"]) for host in paths)


def _fields(vault: Vault, path: str, field: str, variable: str) -> dict[str, Secret]:
    from labctl.adapters.vault import Absent, Deleted

    try:
        return vault.read(path)[1]
    except Deleted as error:
        raise BadReference(error.message, variable=variable, hint=error.hint) from None
    except Absent as error:
        hint = error.hint
        # Whom the Vault lets read a secret, it does not always let list them.
        with suppress(LabError):
            hint = nearest(path, {entry.path for entry in vault.list_secrets()})
        raise _absent(error.message, path, field, variable, hint) from None


def _absent(message: str, path: str, field: str, variable: str, hint: str) -> LabError:
    fields = generated_fields(path)
    if field in fields:
        return AdapterError(message, where=variable, hint="`labctl up --layer foundation` generates it.")
    return BadReference(message, variable=variable, hint=nearest(field, fields) if fields else hint)
