"""Users and databases of projects in PostgreSQL: what is asked and told, and what may be. Pure.

The SQL is the same for everybody: names come to psql as its variables, which it quotes itself, and the password as a verifier
in its environment. So the server never sees a password that it might write into its log.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from labctl.model.errors import AdapterError, UserError
from labctl.model.secret import Secret

VERIFIER = "LABCTL_VERIFIER"
"""The variable of the environment that has what the server keeps of the password."""

SALT_BYTES = 16
_ITERATIONS = 4096
"""PostgreSQL's own default."""

LOOK = """\
SELECT json_build_object(
  'role', EXISTS (SELECT FROM pg_roles WHERE rolname = :'role'),
  'owner', (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = :'database'));
"""

# One at a time: two that make the same role at once would both find it absent. A database of somebody else is left alone, with
# all that would have gone with it.
MAKE = r"""\getenv verifier LABCTL_VERIFIER
SET lock_timeout = '60s';
SELECT pg_advisory_lock(hashtext('labctl provision')) \g /dev/null
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') AS new_role,
  NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') AS new_database,
  NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database' AND pg_get_userbyid(datdba) <> :'role') AS own \gset
\if :own
  \if :new_role
    CREATE ROLE :"role";
  \endif
  ALTER ROLE :"role" LOGIN PASSWORD :'verifier';
  \if :new_database
    CREATE DATABASE :"database" OWNER :"role";
  \endif
  REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
\endif
SELECT json_build_object('role', :'new_role'::boolean, 'database', :'new_database'::boolean,
  'owner', (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = :'database'));
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there.

    Attributes:
        role: Whether there is such a role.
        owner: Whose the database is; "" where there is none.
    """

    role: bool
    owner: str


@dataclass(frozen=True, slots=True)
class Made:
    """What was made.

    Attributes:
        role: Whether the role is new.
        database: Whether the database is.
        owner: Whose the database is.
    """

    role: bool
    database: bool
    owner: str


def psql(superuser: str, user: str, database: str) -> list[str]:
    """The command that reads SQL from standard input, in the server's own container."""
    return [
        "psql",
        "--no-psqlrc",
        "--no-password",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--set=ON_ERROR_STOP=1",
        "--host=/var/run/postgresql",
        "--dbname=postgres",
        f"--username={superuser}",
        f"--set=role={user}",
        f"--set=database={database}",
        "--file=-",
    ]


def found(text: str) -> Found:
    """What `LOOK` answered."""
    answer = _answer(text)
    return Found(bool(answer["role"]), str(answer["owner"] or ""))


def made(text: str) -> Made:
    """What `MAKE` answered."""
    answer = _answer(text)
    return Made(bool(answer["role"]), bool(answer["database"]), str(answer["owner"] or ""))


def _answer(text: str) -> Any:
    try:
        return json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise AdapterError(f"psql answers something else than was asked: {text.strip()[:200]!r}", where="postgres") from None


def require_ours(there: Found, user: str, database: str, *, known: bool) -> None:
    """Refuses what labctl did not make.

    Args:
        there: What is there.
        user: Who is to be a role.
        database: What is to be a database of that role.
        known: Whether the Vault keeps credentials of the user.

    Raises:
        UserError: The role or the database is somebody else's.
    """
    if there.role and not known:
        raise UserError(
            f"role {user!r} is there already, and labctl did not make it",
            where="postgres",
            hint="Choose another --user. labctl takes over no role: somebody may log in with its password.",
        )
    if there.owner:
        require_owner(there.owner, user, database)


def require_owner(owner: str, user: str, database: str) -> None:
    """Refuses a database of another role.

    Raises:
        UserError: It is.
    """
    if owner != user:
        raise UserError(
            f"database {database!r} belongs to {owner!r}",
            where="postgres",
            hint=f"Choose another --database, or provision for its owner: --user {owner}.",
        )


def scram_verifier(password: Secret, salt: bytes) -> Secret:
    """What PostgreSQL keeps of a password: by it a login is checked, and the password cannot be read from it.

    RFC 5803, RFC 7677; PostgreSQL takes it in the place of a password. It prepares passwords by SASLprep, which leaves ASCII as
    it is.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.reveal().encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(_keyed(salted, b"Client Key")).digest()
    server = _keyed(salted, b"Server Key")
    parts = (base64.b64encode(value).decode() for value in (salt, stored, server))
    return Secret("SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *parts))


def _keyed(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()
