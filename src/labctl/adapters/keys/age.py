"""Encryption in the age format (https://age-encryption.org/v1), to age and SSH public keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyrage

from labctl.adapters.keys._files import create_exclusively, read
from labctl.model.errors import AdapterError, UserError

UNSEAL_HINT = "Run `labctl vault unseal --identity FILE` with the private key of one of the lab's operators."
_AGE_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105 - the prefix of such keys, not one
_NO_MATCH = "No matching keys found"


def encrypt(recipients: Sequence[str], data: bytes) -> bytes:
    """Encrypts `data` so that each one of `recipients` alone can read it.

    Args:
        recipients: Public keys: `age1…`, `ssh-ed25519 …` or `ssh-rsa …`, a comment may follow.
        data: What to encrypt.

    Raises:
        UserError: There is no recipient, or one is not such a key.
    """
    if not recipients:
        raise UserError("there is no operator to encrypt to", hint="List an age or SSH public key under `operators` in lab.yaml.")
    try:
        sealed: bytes = pyrage.encrypt(data, [_recipient(text) for text in recipients])
    except pyrage.EncryptError as error:
        raise AdapterError(f"encryption failed: {error}") from error
    return sealed


def decrypt(data: bytes, identity_files: Sequence[Path]) -> bytes:
    """Decrypts `data` with the first of the identity files that fits.

    Args:
        data: What `encrypt` gave.
        identity_files: age identity files, or OpenSSH private keys without a passphrase.

    Raises:
        UserError: No file is given, or none fits; names every file tried and what is wrong with it.
        AdapterError: A key fits but the data is damaged.
    """
    identities: list[object] = []
    usable: list[Path] = []
    problems: list[str] = []
    for file in identity_files:
        try:
            identities += _identities(file)
            usable.append(file)
        except UserError as error:
            problems.append(str(error))
    if identities:
        try:
            plain: bytes = pyrage.decrypt(data, identities)
            return plain
        except pyrage.DecryptError as error:
            if str(error) != _NO_MATCH:
                raise AdapterError(f"the encrypted file is damaged: {error}", hint="Restore it from a backup.") from error
        fits = "is not the key" if len(usable) == 1 else "are not the keys"
        problems.insert(0, f"{', '.join(map(str, usable))} {fits} that it is encrypted to")
    tried = "; ".join(problems) or "no identity file was named"
    raise UserError(f"the operator's key is not at hand: {tried}", hint=UNSEAL_HINT)


def generate_identity(path: Path) -> str:
    """Makes a new age identity file (mode 0600) and returns its public key.

    Raises:
        UserError: `path` exists; it is never overwritten.
        AdapterError: It cannot be written.
    """
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    created = datetime.now(UTC).isoformat(timespec="seconds")
    create_exclusively(path, f"# created: {created}\n# public key: {public}\n{identity}\n".encode())
    return public


def public_key(path: Path) -> str:
    """The public key of an age identity file.

    Raises:
        UserError: The file is missing, or holds no age identity.
    """
    identities = [found for found in _identities(path) if isinstance(found, pyrage.x25519.Identity)]
    if not identities:
        raise UserError("is not an age identity", where=str(path))
    return str(identities[0].to_public())


def _recipient(text: str) -> object:
    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        recipient: object = kind.from_str(text.strip())
    except pyrage.RecipientError as error:
        # A private key that was given by mistake is not quoted, nor what the library says of it.
        quoted = "" if _AGE_SECRET in text.upper() else f" {text[:32]!r}…"
        reason = f": {error}" if quoted else ", but a private one"
        raise UserError(
            f"operator{quoted} is not a public key{reason}",
            hint="Write a whole line as `age-keygen -y` or `~/.ssh/id_ed25519.pub` shows it.",
        ) from error
    return recipient


def _identities(file: Path) -> list[object]:
    try:
        content = read(file)
    except FileNotFoundError as error:
        raise UserError("does not exist", where=str(file)) from error
    if b"PRIVATE KEY" in content:
        return [_ssh_identity(file, content)]
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    try:
        found: list[object] = [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith(_AGE_SECRET)]
    except pyrage.IdentityError as error:
        raise UserError("holds a damaged age identity", where=str(file)) from error
    if not found:
        raise UserError("holds neither an age identity nor an SSH private key", where=str(file))
    return found


def _ssh_identity(file: Path, content: bytes) -> object:
    try:
        identity: object = pyrage.ssh.Identity.from_buffer(content)
    except pyrage.IdentityError as error:
        if "decrypted first" in str(error) or "EncryptedPem" in str(error):
            raise UserError("is protected by a passphrase, which labctl cannot open", where=str(file)) from error
        raise UserError(f"is not an SSH key that age can use (ed25519 or RSA): {error}", where=str(file)) from error
    return identity
