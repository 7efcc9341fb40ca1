"""What PostgreSQL is told, and what may be."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from labctl.model.errors import AdapterError, UserError
from labctl.model.projectsql import LOOK, MAKE, VERIFIER, Found, found, made, psql, require_ours, require_owner, scram_verifier
from labctl.model.secret import Secret

# RFC 7677, section 3.
PASSWORD, SALT = Secret("pencil"), base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SAID = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={NONCE}".encode()
PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_by_the_verifier_a_login_is_checked_as_the_standard_says() -> None:
    method, salt, keys = scram_verifier(PASSWORD, SALT).reveal().split("$")
    assert method == "SCRAM-SHA-256"
    assert salt == "4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    stored, server = map(base64.b64decode, keys.split(":"))
    signed = hmac.new(stored, SAID, hashlib.sha256).digest()
    client_key = bytes(a ^ b for a, b in zip(PROOF, signed, strict=True))
    assert hashlib.sha256(client_key).digest() == stored
    assert hmac.new(server, SAID, hashlib.sha256).digest() == SIGNATURE


def test_the_verifier_does_not_show_itself() -> None:
    assert "SCRAM" not in repr(scram_verifier(PASSWORD, SALT))


def test_names_are_variables_that_psql_quotes_and_no_part_of_the_sql() -> None:
    command = psql("boss", "shop", "orders")
    assert command[-3:] == ["--set=role=shop", "--set=database=orders", "--file=-"]
    assert "--set=ON_ERROR_STOP=1" in command
    for name in ("role", "database"):
        for sql in (LOOK, MAKE):
            assert sql.count(f":'{name}'") + sql.count(f':"{name}"') == sql.count(f":'{name}") + sql.count(f':"{name}')
            assert f":{name}" not in sql
    assert MAKE.startswith(f"\\getenv verifier {VERIFIER}\n")


def test_what_is_found_and_made_is_read() -> None:
    assert found('{"role" : true, "owner" : null}\n') == Found(role=True, owner="")
    answer = made('{"role" : false, "database" : true, "owner" : "shop"}')
    assert (answer.role, answer.database, answer.owner) == (False, True, "shop")
    for text in ("", "WARNING\n", "t"):
        with pytest.raises(AdapterError):
            found(text)


@pytest.mark.parametrize(
    ("there", "known", "said"),
    [
        (Found(role=False, owner=""), False, ""),
        (Found(role=False, owner=""), True, ""),
        (Found(role=True, owner="shop"), True, ""),
        (Found(role=True, owner=""), False, "role 'shop' is there already"),
        (Found(role=True, owner="other"), True, "database 'orders' belongs to 'other'"),
        (Found(role=False, owner="other"), False, "database 'orders' belongs to 'other'"),
    ],
)
def test_nothing_of_anybody_else_is_taken_over(there: Found, known: bool, said: str) -> None:
    if not said:
        require_ours(there, "shop", "orders", known=known)
        return
    with pytest.raises(UserError, match=said):
        require_ours(there, "shop", "orders", known=known)


def test_the_owner_is_told_as_the_way_out() -> None:
    with pytest.raises(UserError) as told:
        require_owner("other", "shop", "orders")
    assert "--user other" in told.value.hint
