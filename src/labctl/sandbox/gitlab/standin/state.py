"""What GitLab keeps in its database: JSON on disk, written whole after each change, with digests instead of tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from . import places

Row = dict[str, Any]

SETTINGS: Row = {
    "signup_enabled": True,
    "version_check_enabled": True,
    "usage_ping_enabled": True,
    "default_branch_name": "main",
    "default_project_visibility": "private",
    "home_page_url": None,
    "after_sign_up_text": None,
    "session_expire_delay": 10080,
    "container_registry_token_expire_delay": 5,
    "runner_token_expiration_interval": None,
    "valid_runner_registrars": ["project", "group"],
    "allow_runner_registration_token": False,
}
"""Application settings that there are, with GitLab's defaults. Others are refused, as a database without such a column would."""


class State:
    """The database. Everything that reads or writes it holds `lock`; `changing` saves at its end."""

    def __init__(self, data: Row, key: str) -> None:
        self.data = data
        self.lock = threading.RLock()
        self._key = bytes.fromhex(key)

    @classmethod
    def load(cls) -> State:
        """The database on disk, with the key of gitlab-secrets.json."""
        return cls(json.loads(places.at(places.STATE).read_text()), db_key())

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Holds the lock, and writes the database to disk afterwards."""
        with self.lock:
            yield
            places.write(places.STATE, json.dumps(self.data, indent=1) + "\n")

    def rows(self, table: str) -> list[Row]:
        """A table."""
        found: list[Row] = self.data["tables"].setdefault(table, [])
        return found

    def insert(self, table: str, row: Row) -> Row:
        """Adds a row with a new id and the time."""
        ids = self.data["ids"]
        ids[table] = ids.get(table, 0) + 1
        full = {"id": ids[table], "created_at": now(), **row}
        self.rows(table).append(full)
        return full

    def delete(self, table: str, row: Row) -> None:
        """Removes a row."""
        self.rows(table).remove(row)

    def find(self, table: str, **wanted: Any) -> Row | None:
        """The first row with these values."""
        return next(iter(self.where(table, **wanted)), None)

    def numbered(self, table: str, number: str, **wanted: Any) -> Row | None:
        """The row with this id, as it stands in a path, and these values."""
        return self.find(table, id=int(number), **wanted) if number.isdigit() else None

    def where(self, table: str, **wanted: Any) -> list[Row]:
        """The rows with these values."""
        return [row for row in self.rows(table) if all(row.get(name) == value for name, value in wanted.items())]

    def seal(self, value: str) -> str:
        """A value that must be read again, as it lies on disk: encrypted with the key of gitlab-secrets.json."""
        nonce = secrets.token_bytes(16)
        return base64.b64encode(nonce + self._mark(nonce, value) + self._xor(nonce, value.encode())).decode()

    def unseal(self, sealed: str) -> str:
        """The value again.

        Raises:
            ValueError: It was sealed with another key.
        """
        raw = base64.b64decode(sealed)
        value = self._xor(raw[:16], raw[32:]).decode(errors="replace")
        if not hmac.compare_digest(raw[16:32], self._mark(raw[:16], value)):
            raise ValueError("sealed with another key")
        return value

    def _mark(self, nonce: bytes, value: str) -> bytes:
        return hmac.digest(self._key, b"mark" + nonce + value.encode(), "sha256")[:16]

    def _xor(self, nonce: bytes, content: bytes) -> bytes:
        blocks = (hmac.digest(self._key, nonce + n.to_bytes(8, "big"), "sha256") for n in range(len(content) // 32 + 1))
        return bytes(a ^ b for a, b in zip(content, b"".join(blocks), strict=False))


def seed(root_password: str) -> None:
    """Makes the database where there is none: user `root` with this password, which later changes of gitlab.rb do not touch."""
    # As in GitLab, a key that was lost is made anew, and what was sealed with the old one cannot be read any more.
    key = db_key()
    if places.at(places.STATE).exists():
        return
    state = State({"ids": {}, "settings": dict(SETTINGS), "tables": {}}, key)
    with state.changing():
        state.insert(
            "users",
            {
                "username": "root",
                "name": "Administrator",
                "email": "admin@example.com",
                "admin": True,
                "password": hashed(root_password or secrets.token_urlsafe(24)),
            },
        )


def db_key() -> str:
    """The key that sealed values are encrypted with, made once."""
    file = places.at(places.SECRETS)
    if not file.exists():
        text = json.dumps(
            {"gitlab_rails": {"db_key_base": secrets.token_hex(32)}, "registry": {"http_secret": secrets.token_hex(32)}}
        )
        places.write(places.SECRETS, text + "\n")
    return str(json.loads(file.read_text())["gitlab_rails"]["db_key_base"])


def digest(token: str) -> str:
    """How a token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def hashed(password: str) -> str:
    """How a password is kept."""
    salt = os.urandom(16)
    return f"{salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, n=2**12, r=8, p=1).hex()}"


def matches(password: str, kept: str) -> bool:
    """Whether it is the password that was kept."""
    salt, _, value = kept.partition("$")
    found = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**12, r=8, p=1).hex()
    return hmac.compare_digest(found, value)


def now() -> str:
    """The time as GitLab writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def age_s(moment: str | None) -> float:
    """Seconds since a moment, infinite for never."""
    if not moment:
        return float("inf")
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
