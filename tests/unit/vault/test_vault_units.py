"""What the Vault adapter does without a Vault: values, differences, errors, isolation from the environment."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import requests
from hvac import exceptions

from labctl.adapters.pki import create_authority
from labctl.adapters.vault import (
    Absent,
    Busy,
    CasMismatch,
    Denied,
    Sealed,
    Uninitialised,
    Vault,
    differing,
    generate,
    role_parameters,
)
from labctl.adapters.vault._errors import explained
from labctl.model.catalogue import Generator, Kind
from labctl.model.errors import AdapterError, LabError, UserError
from labctl.model.secret import Secret
from labctl.model.vaultroles import RoleSpec

ADDRESS = "https://192.0.2.12:8200"
URL = f"{ADDRESS}/v1/lab/data/store/root"


@pytest.mark.parametrize(
    ("kind", "alphabet"),
    [
        ("password", str.isalnum),
        ("secret_key", str.isalnum),
        ("access_key", lambda text: text.isalnum() and text == text.upper()),
        ("token", lambda text: set(text) <= set("0123456789abcdef")),
    ],
)
def test_generated_values(kind: Kind, alphabet: object) -> None:
    values = {generate(Generator(kind, 40)).reveal() for _ in range(50)}
    assert len(values) == 50
    assert all(len(value) == 40 and alphabet(value) for value in values)  # type: ignore[operator]


def test_generated_uuid() -> None:
    assert uuid.UUID(generate(Generator("uuid")).reveal()).version == 4


def test_differences_ignore_how_the_server_writes_things() -> None:
    role = RoleSpec("r", ("p",), secret_id_num_uses=1, bound_cidrs=("192.0.2.1/32", "127.0.0.0/8"))
    wanted = role_parameters(role)
    found = {**wanted, "token_bound_cidrs": ["127.0.0.0/8", "192.0.2.1"], "extra": 1}
    assert differing(wanted, found) == ()
    assert differing(wanted, {**found, "secret_id_num_uses": 0}) == ("secret_id_num_uses",)
    assert differing(wanted, {**found, "secret_id_bound_cidrs": None}) == ("secret_id_bound_cidrs",)
    assert differing({"a": []}, {"a": None}) == ()


VAULT_ERRORS = [
    (exceptions.VaultDown("Vault is sealed", url=URL), Sealed, "sealed"),
    (exceptions.VaultNotInitialized("Vault is not initialized", url=URL), Uninitialised, "not initialised"),
    (exceptions.Forbidden("1 error occurred:\n\t* permission denied\n\n", url=URL), Denied, "lab/data/store/root"),
    (exceptions.InvalidPath(None, url=URL), Absent, "nothing at this path"),
    (exceptions.InvalidRequest("invalid role or secret ID", url=URL), Denied, "used up"),
    (
        exceptions.InvalidRequest("check-and-set parameter did not match the current version", url=URL),
        CasMismatch,
        "another version",
    ),
    (exceptions.InvalidRequest("check-and-set parameter required for this call", url=URL), AdapterError, "required for this"),
    (exceptions.InternalServerError("internal error", url=URL), Busy, "internal error"),
    (exceptions.VaultDown("something else", url=URL), Busy, "something else"),
]


@pytest.mark.parametrize(("raised", "kind", "says"), VAULT_ERRORS, ids=[e[2] for e in VAULT_ERRORS])
def test_what_a_vault_says(raised: Exception, kind: type[LabError], says: str) -> None:
    with pytest.raises(LabError, match=says) as caught, explained(ADDRESS):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.where == ADDRESS


TRANSPORT_ERRORS = [
    (requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer"), UserError, "this lab's authority"),
    (requests.exceptions.SSLError("certificate verify failed: IP address mismatch"), UserError, "another name or address"),
    (requests.exceptions.SSLError("certificate verify failed: certificate has expired"), UserError, "not valid at this time"),
    (requests.exceptions.SSLError("[SSL: WRONG_VERSION_NUMBER]"), UserError, "does not speak TLS"),
    (requests.exceptions.ConnectTimeout("timed out"), AdapterError, "no answer in time"),
    (requests.exceptions.ConnectionError("[Errno 111] Connection refused"), AdapterError, "connection refused"),
    (requests.exceptions.ConnectionError("Failed to resolve 'x'"), UserError, "not known"),
    (requests.exceptions.ConnectionError("Connection aborted"), AdapterError, "connection failed"),
]


@pytest.mark.parametrize(("raised", "kind", "says"), TRANSPORT_ERRORS, ids=[e[2] for e in TRANSPORT_ERRORS])
def test_what_the_way_there_says(raised: Exception, kind: type[LabError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught, explained(ADDRESS):
        raise raised
    assert caught.value.hint


def test_the_environment_and_the_home_folder_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(create_authority("x").cert_pem)
    (tmp_path / ".vault-token").write_text("from-home")
    monkeypatch.setenv("HOME", str(tmp_path))
    vault = Vault(ADDRESS, ca_file)
    assert vault.client.token == ""
    monkeypatch.setenv("VAULT_TOKEN", "from-environment")
    monkeypatch.setenv("VAULT_ADDR", "https://elsewhere.example.com")
    vault = Vault(ADDRESS, ca_file)
    assert (vault.client.token, vault.client.url) == ("", ADDRESS)
    assert vault.with_token(Secret("mine")).client.token == "mine"


def test_a_missing_authority_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="authority is not there"):
        Vault(ADDRESS, tmp_path / "none.pem")


def test_nobody_there(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(create_authority("x").cert_pem)
    status = Vault("https://127.86.88.99:8200", ca_file).status()
    assert not status.reachable
    assert status.problem == "connection refused"
    with pytest.raises(AdapterError, match=r"connection refused, for 0 s"):
        Vault("https://127.86.88.99:8200", ca_file).wait_reachable(0.1)
