"""The operator's keys: to whom recovery keys are encrypted, and which private keys are at hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.adapters.keys import Keyring, generate_identity, public_key
from labctl.engine.paths import LabPaths, replace_file
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.secret import Secret

if TYPE_CHECKING:
    from labctl.adapters.pki import Authority

AUTHORITY = "authority"
SSH_KEY = "ssh"
"""The key file with labctl's own SSH key."""

_USUAL = ("~/.config/labctl/identity.txt", "~/.ssh/id_ed25519", "~/.ssh/id_rsa")


def recipients(lab: Lab, paths: LabPaths) -> tuple[str, ...]:
    """The public keys that key files are encrypted to: the operators', and on the sandbox the lab's own, made on first use."""
    if not lab.target.sandbox:
        return lab.operators
    file = paths.operator_identity
    own = public_key(file) if file.is_file() else generate_identity(file)
    return (*lab.operators, own)


def identities(paths: LabPaths, named: Sequence[Path] = ()) -> tuple[Path, ...]:
    """The private key files to try.

    Named ones come first, and alone where there are any; else `LABCTL_IDENTITY`, the sandbox's own, and the usual places.

    Raises:
        UserError: A named file does not exist.
    """
    variable = os.environ.get("LABCTL_IDENTITY")
    wanted = [*named, *([Path(variable)] if variable and not named else [])]
    for file in wanted:
        if not file.is_file():
            raise UserError("there is no such identity file", where=str(file), hint="Name an age identity or an SSH private key.")
    if wanted:
        return tuple(wanted)
    usual = (paths.operator_identity, *(Path(name).expanduser() for name in _USUAL))
    return tuple(file for file in usual if file.is_file())


def ensure_authority(lab: Lab, paths: LabPaths, keyring: Keyring, own: Sequence[Path], *, deployed: bool) -> bool:
    """Makes the lab's authority where there is none; says whether it did.

    The key file is written before the certificate: a lab with a certificate always has its key.

    Raises:
        UserError: The certificate is gone and no operator's key is at hand to restore it, or the whole folder is gone.
    """
    if paths.authority.is_file():
        return False
    if keyring.exists(AUTHORITY):
        certificate = read_authority(keyring, own).cert_pem
    elif deployed:
        raise UserError(
            "the lab is deployed, but its keys are not here",
            where=str(paths.keys),
            hint="Copy the folder keys/ from where the lab was brought up: a new authority would not fit its guests.",
        )
    else:
        from labctl.adapters.pki import create_authority

        made = create_authority(f"labctl {lab.name} authority")
        keyring.write(AUTHORITY, {"certificate": Secret(made.cert_pem), "key": made.key_pem}, recipients(lab, paths))
        certificate = made.cert_pem
    replace_file(paths.authority, certificate)
    return True


def read_authority(keyring: Keyring, own: Sequence[Path]) -> Authority:
    """The authority with its key.

    Raises:
        UserError: No operator's key is at hand.
    """
    from labctl.adapters.pki import Authority

    payload = keyring.read(AUTHORITY, own)
    return Authority(_one(payload["certificate"]).reveal(), _one(payload["key"]))


def ensure_ssh_key(lab: Lab, paths: LabPaths, keyring: Keyring, own: Sequence[Path]) -> bool:
    """Makes labctl's own SSH key where there is none; says whether it did.

    It is made before the Vault is, because guests `vault` and `store` are born with its public half. The Vault gets a copy once
    it is up; the key file stays: a Vault that is sealed is when one wants to get into its guest.

    Raises:
        UserError: The public half is gone and no operator's key is at hand to restore it.
    """
    if paths.ssh_key.is_file():
        return False
    if keyring.exists(SSH_KEY):
        public = _one(keyring.read(SSH_KEY, own)["public_key"]).reveal()
    else:
        from labctl.adapters.pki import create_ssh_key

        made = create_ssh_key(f"labctl@{lab.name}")
        keyring.write(SSH_KEY, {"public_key": Secret(made.public), "private_key": made.private}, recipients(lab, paths))
        public = made.public
    replace_file(paths.ssh_key, f"{public}\n")
    return True


def read_ssh_key(keyring: Keyring, own: Sequence[Path]) -> Secret:
    """The private half, as OpenSSH takes it.

    Raises:
        UserError: No operator's key is at hand.
        AdapterError: The key file is missing or damaged.
    """
    return _one(keyring.read(SSH_KEY, own)["private_key"])


def public_ssh_key(paths: LabPaths) -> str:
    """The public half on one line; "" before it is made."""
    return paths.ssh_key.read_text().strip() if paths.ssh_key.is_file() else ""


def _one(value: Secret | tuple[Secret, ...]) -> Secret:
    assert not isinstance(value, tuple)
    return value
