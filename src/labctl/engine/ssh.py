"""`labctl ssh`: into a guest with labctl's own key and the host key that its agent told. Nothing of the user's is used."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from labctl.adapters.compose.terminal import follow, key_file
from labctl.adapters.keys import Keyring
from labctl.engine.guestcall import CalledGuest, call_guest, known_guest
from labctl.engine.hostkeys import learn_host_key, read_known_hosts
from labctl.engine.identity import SSH_KEY, identities, read_ssh_key
from labctl.engine.lab import OpenLab
from labctl.engine.paths import private_files
from labctl.engine.session import local_state
from labctl.engine.status import lab_session
from labctl.model.catalogue import PLATFORM_SSH
from labctl.model.errors import LabError, UserError
from labctl.model.guestfiles import OPS
from labctl.model.knownhosts import known
from labctl.model.secret import Secret

FAILED = 255
"""OpenSSH's own exit code for a connection that failed."""


def ssh_into(found: OpenLab, name: str, command: Sequence[str], named: Sequence[Path] = ()) -> int:
    """Runs a command in a guest, or a shell; returns its exit code, 255 where the connection failed.

    Args:
        found: The lab.
        name: The guest.
        command: The command; one word goes to the guest's shell as it is, several reach it word by word.
        named: The operator's identity files.

    Raises:
        UserError: There is no such guest, it is an appliance, or OpenSSH is not installed.
        LabError: The hypervisor or the key is out of reach; the guest's host key is not known.
    """
    known_guest(found.lab, name)
    if not found.lab.boots:
        raise UserError(
            f"guest {name} is an appliance of the sandbox, which has no shell",
            hint=f"`labctl console {name}` shows what its services say.",
        )
    program = shutil.which("ssh")
    if program is None:
        raise UserError("there is no ssh on PATH", hint="apt-get install openssh-client")
    with call_guest(found, name) as guest:
        address = guest.address()
        require_host_key(found, guest, address)
    key = private_key(found, named)
    with key_file(key) as file:
        return follow(ssh_command(program, file, found.paths.known_hosts, name, address, command))


def ssh_command(program: str, key: str, known_hosts: Path, name: str, address: str, command: Sequence[str]) -> list[str]:
    """The command line. It takes nothing from the user's own SSH: no configuration, no agent, no known hosts, no other key."""
    options = {
        "IdentityFile": key,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": _quoted(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "HostKeyAlias": name,
        "CheckHostIP": "no",
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
        "LogLevel": "ERROR",
    }
    remote = [] if not command else ["--", command[0] if len(command) == 1 else shlex.join(command)]
    given = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
    return [program, "-F", "/dev/null", *given, f"{OPS}@{address}", *remote]


def _quoted(path: Path) -> str:
    """A file name for an option that takes several, where `%` begins a token."""
    return '"' + str(path).replace("%", "%%") + '"'


def require_host_key(found: OpenLab, guest: CalledGuest, address: str) -> None:
    """The key that the guest has now, where its agent answers; else the one that was taken down."""
    with suppress(LabError), private_files():
        learn_host_key(guest.hypervisor, found.paths, guest.spec, guest.output(address))
    if known(read_known_hosts(found.paths), guest.spec.name) is None:
        raise UserError(
            "its SSH host key is not known: its agent does not tell it",
            where=f"guest {guest.spec.name}",
            hint="A guest makes it on its first boot; `labctl up` waits for that. No unknown host is connected to.",
        )


def private_key(found: OpenLab, named: Sequence[Path]) -> Secret:
    """From the Vault, which takes down who reads it; from the key file where the Vault cannot be asked."""
    outputs = local_state(found.paths, "foundation").outputs or {}
    try:
        session = lab_session(found, outputs, named)
    except LabError:
        return _kept_key(found, named)
    try:
        return session.vault.read(PLATFORM_SSH)[1]["private_key"]
    except (LabError, KeyError):
        return _kept_key(found, named)
    finally:
        session.close()


def _kept_key(found: OpenLab, named: Sequence[Path]) -> Secret:
    keyring = Keyring(found.paths.keys)
    if not keyring.exists(SSH_KEY):
        raise UserError("labctl has no SSH key of its own yet", where=str(found.paths.keys), hint="`labctl up` makes it.")
    return read_ssh_key(keyring, identities(found.paths, named))
