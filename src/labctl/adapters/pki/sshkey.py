"""Makes SSH keys."""

from __future__ import annotations

from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from labctl.model.secret import Secret


class SshKey(NamedTuple):
    """An SSH key: its public half on one line, its private half as OpenSSH writes it, without a passphrase."""

    public: str
    private: Secret


def create_ssh_key(comment: str) -> SshKey:
    """Makes an ed25519 key."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return SshKey(f"{public.decode()} {comment}", Secret(private.decode()))
