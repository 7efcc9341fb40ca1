"""The SFTP server: snippets reach a PVE over SSH, its API cannot take them. Chrooted; nothing but SFTP is served."""

from __future__ import annotations

import hmac
from pathlib import Path

import asyncssh

from labctl.model.secret import Secret

MAX_FAILED_LOGINS = 6


class _Files(asyncssh.SFTPServer):
    """Files below the chroot. Links are refused: one that points outside would be a way out."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], root: Path) -> None:
        super().__init__(chan, chroot=str(root).encode())

    def symlink(self, _oldpath: bytes, _newpath: bytes) -> None:
        """Refuse a symbolic link."""
        raise asyncssh.SFTPPermissionDenied("links are not served")

    def link(self, _oldpath: bytes, _newpath: bytes) -> None:
        """Refuse a hard link."""
        raise asyncssh.SFTPPermissionDenied("links are not served")


class _Logins(asyncssh.SSHServer):
    """Lets in one user, by password or by one key."""

    def __init__(self, username: str, password: Secret, public_key: str) -> None:
        self._username = username
        self._password = password
        self._key = asyncssh.import_public_key(public_key)

    def begin_auth(self, _username: str) -> bool:
        """Everybody must log in."""
        return True

    def password_auth_supported(self) -> bool:
        """Passwords are taken."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Whether a password is right."""
        return username == self._username and hmac.compare_digest(password.encode(), self._password.reveal().encode())

    def public_key_auth_supported(self) -> bool:
        """Keys are taken."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether a key is the one."""
        return username == self._username and key == self._key


async def serve(
    address: str, port: int, *, root: Path, host_key: Path, username: str, password: Secret, public_key: str
) -> asyncssh.SSHAcceptor:
    """Listen for SFTP.

    Args:
        address: Where to listen.
        port: Its port.
        root: The folder that clients see as `/`.
        host_key: Private key of the server; it must last, clients pin it.
        username: Who may log in.
        password: With which password.
        public_key: Or with which key (a line of authorized_keys).

    Raises:
        OSError: The address cannot be bound.
    """
    return await asyncssh.create_server(
        lambda: _Logins(username, password, public_key),
        address,
        port,
        server_host_keys=[str(host_key)],
        sftp_factory=lambda chan: _Files(chan, root),
        allow_scp=False,
    )
