"""Who is asking: passwords, tickets that expire, API tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from labctl.model.secret import Secret
from labctl.sandbox.pve.errors import ApiError
from labctl.sandbox.pve.privileges import owner_of
from labctl.sandbox.pve.state import State, Token, User

TICKET_LIFE_S = 7200


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session: who has it, what a writing request must carry too, and until when it holds (monotonic seconds)."""

    user: str
    csrf: str
    expires: float


def hash_password(password: str) -> str:
    """A salted hash of a password."""
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, n=2**12, r=8, p=1).hex()}"


def check_password(password: str, hashed: str) -> bool:
    """Whether a password is the one that was hashed."""
    salt, _, expected = hashed.partition("$")
    if not expected:
        return False
    actual = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**12, r=8, p=1).hex()
    return hmac.compare_digest(actual, expected)


def hash_token(value: str) -> str:
    """What is kept of a token's value. It is random and long: a plain hash is enough."""
    return hashlib.sha256(value.encode()).hexdigest()


def seed_accounts(state: State, *, root_password: Secret, token_id: str, token: Secret) -> None:
    """Make sure that root's password and the sandbox's own token are the ones of its credentials file."""
    from labctl.sandbox.pve.state import AclEntry

    root = state.users.setdefault("root@pam", User())
    if not check_password(root_password.reveal(), root.password):
        root.password = hash_password(root_password.reveal())
    owner = owner_of(token_id)
    state.users.setdefault(owner, User(comment="labctl"))
    if not any(entry.path == "/" and entry.ugid == owner for entry in state.acl):
        state.acl.append(AclEntry("/", "user", owner, "Administrator"))
    state.tokens[token_id] = Token(hash_token(token.reveal()), privsep=0, comment="labctl")


class Sessions:
    """Tickets that were handed out. They do not survive a restart, as on a PVE whose keys were renewed."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}

    def log_in(self, state: State, username: str, password: str) -> dict[str, object]:
        """A ticket for a user and a password, or for a ticket that still holds.

        Raises:
            ApiError: 401.
        """
        user = username if "@" in username else f"{username}@pam"
        known = state.users.get(user)
        renewed = self._tickets.get(password)
        renewable = renewed is not None and renewed.user == user and renewed.expires > time.monotonic()
        if known is None or not _is_active(known) or not (renewable or check_password(password, known.password)):
            raise ApiError(401, "authentication failure")
        value = f"PVE:{user}:{int(time.time()):08X}::{secrets.token_urlsafe(48)}"
        ticket = Ticket(user, f"{int(time.time()):08X}:{secrets.token_urlsafe(32)}", time.monotonic() + TICKET_LIFE_S)
        self._tickets[value] = ticket
        return {"username": user, "ticket": value, "CSRFPreventionToken": ticket.csrf, "clustername": "sandbox", "cap": {}}

    def expire_all(self) -> None:
        """Make every ticket invalid at once."""
        self._tickets.clear()

    def caller(self, state: State, *, authorization: str, cookie: str, csrf: str, writes: bool) -> str:
        """Who sent a request with these headers.

        Raises:
            ApiError: 401, with what is wrong.
        """
        if authorization.startswith("PVEAPIToken="):
            return _token_caller(state, authorization.removeprefix("PVEAPIToken="))
        if not cookie:
            raise ApiError(401, "No ticket")
        ticket = self._tickets.get(cookie)
        if ticket is None or ticket.expires < time.monotonic():
            raise ApiError(401, "permission denied - invalid PVE ticket")
        if writes and not hmac.compare_digest(csrf, ticket.csrf):
            raise ApiError(401, "Permission denied - invalid csrf token")
        _require_user(state, ticket.user)
        return ticket.user


def _token_caller(state: State, text: str) -> str:
    token_id, _, value = text.partition("=")
    _require_user(state, owner_of(token_id))
    token = state.tokens.get(token_id)
    if token is None:
        user, _, name = token_id.partition("!")
        raise ApiError(401, f"no such token '{name}' for user '{user}'")
    if token.expire and token.expire < time.time():
        raise ApiError(401, f"token '{token_id}' access expired")
    if not hmac.compare_digest(hash_token(value), token.value_sha256):
        raise ApiError(401, "invalid token value!")
    return token_id


def _is_active(user: User) -> bool:
    return bool(int(user.enable)) and not (user.expire and user.expire < time.time())


def _require_user(state: State, userid: str) -> None:
    user = state.users.get(userid)
    if user is None:
        raise ApiError(401, f"no such user ('{userid}')")
    if not int(user.enable):
        raise ApiError(401, f"user '{userid}' is disabled")
    if not _is_active(user):
        raise ApiError(401, f"user '{userid}' access expired")
