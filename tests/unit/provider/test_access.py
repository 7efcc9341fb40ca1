"""What a reference to a secret gives, and what it means where it gives nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from labctl.adapters import vault as vault_room
from labctl.adapters.compose import SshShell
from labctl.adapters.vault import Absent, Deleted, Denied, Sealed, SecretEntry
from labctl.model.catalogue import catalogue, generated_fields
from labctl.model.errors import AdapterError, LabError
from labctl.model.labfile import parse_lab
from labctl.model.secret import Secret
from labctl.provider import access
from labctl.provider.access import BadReference, read_secrets

HELD: dict[str, Mapping[str, str]] = {
    "labctl/content": {"key": "k"},
    "services/postgres": {"password": "p"},
    "projects/shop": {"token": "t", "user": "u"},
}


class Vault:
    """Answers what it holds, or the error that it is told to."""

    faults: Mapping[str, LabError] = {}
    lists = True

    def __init__(self, address: str, authority: Path, token: Secret) -> None:
        self.asked = (address, str(authority), token.reveal())

    def read(self, path: str) -> tuple[int, dict[str, Secret]]:
        if path in self.faults or "*" in self.faults:
            raise self.faults.get(path) or self.faults["*"]
        if path not in HELD:
            raise Absent(f"there is no secret {path!r}", hint="`labctl secrets list` shows what there is.")
        return 1, {name: Secret(value) for name, value in HELD[path].items()}

    def list_secrets(self) -> tuple[SecretEntry, ...]:
        if not self.lists:
            raise Denied("permission denied")
        return tuple(SecretEntry(path, 1, "") for path in HELD)


@pytest.fixture(autouse=True)
def vault(monkeypatch: pytest.MonkeyPatch) -> type[Vault]:
    class Own(Vault):
        pass

    monkeypatch.setattr(vault_room, "Vault", Own)
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_CACERT"):
        monkeypatch.setenv(name, "x")
    return Own


def test_values_come_with_the_key_of_the_hashes() -> None:
    values, key = read_secrets({"A": "services/postgres#password", "B": "projects/shop#token"})
    assert {name: value.reveal() for name, value in values.items()} == {"A": "p", "B": "t"}
    assert key == Secret("k")
    assert read_secrets({}) == ({}, None)


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("projects/shop", "is no reference", "path#field"),
        ("projects/shpo#token", "there is no secret 'projects/shpo'", "Did you mean 'projects/shop'?"),
        ("projects/shop#tokn", "secret projects/shop has no field 'tokn'", "Did you mean 'token'?"),
        ("services/postgres#passwort", "secret services/postgres has no field 'passwort'", "Did you mean 'password'?"),
        # It may come, but never with that field.
        ("services/mlflow#passwort", "there is no secret 'services/mlflow'", "Did you mean 'password'?"),
    ],
)
def test_what_will_never_be_there_is_a_bad_reference_that_names_the_nearest(reference: str, message: str, hint: str) -> None:
    with pytest.raises(BadReference) as caught:
        read_secrets({"GOOD": "services/postgres#password", "BAD": reference})
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.variable == "BAD"


def test_where_the_vault_does_not_list_its_own_command_is_named(vault: type[Vault]) -> None:
    vault.lists = False
    with pytest.raises(BadReference) as caught:
        read_secrets({"A": "projects/shpo#token"})
    assert "labctl secrets list" in caught.value.hint


def test_what_was_deleted_does_not_come_by_itself(vault: type[Vault]) -> None:
    vault.faults = {"services/postgres": Deleted("secret 'services/postgres' was deleted, version 1", hint="`bao kv undelete`")}
    with pytest.raises(BadReference, match="was deleted") as caught:
        read_secrets({"A": "services/postgres#password"})
    assert "undelete" in caught.value.hint


@pytest.mark.parametrize("reference", ["services/mlflow#password", "store/mlflow#access_key"])
def test_what_labctl_generates_may_come(reference: str) -> None:
    with pytest.raises(AdapterError, match="there is no secret") as caught:
        read_secrets({"A": reference})
    assert "labctl up --layer foundation" in caught.value.hint


def test_a_field_that_labctl_adds_may_come(vault: type[Vault], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HELD, "services/open_webui", {"password": "p"})
    with pytest.raises(AdapterError, match="secret services/open_webui has no field 'session_key'"):
        read_secrets({"A": "services/open_webui#session_key"})


@pytest.mark.parametrize("fault", [Denied("permission denied"), Sealed("the Vault is sealed"), AdapterError("refused")])
def test_a_vault_that_does_not_answer_says_nothing_about_a_reference(vault: type[Vault], fault: LabError) -> None:
    vault.faults = {"*": fault}
    with pytest.raises(type(fault)) as caught:
        read_secrets({"A": "projects/shpo#token"})
    assert not isinstance(caught.value, BadReference)


@pytest.mark.parametrize("name", ["VAULT_ADDR", "VAULT_TOKEN", "VAULT_CACERT"])
def test_a_vault_that_is_not_in_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    assert read_secrets({}) == ({}, None)
    with pytest.raises(LabError, match="is not set") as caught:
        read_secrets({"A": "services/postgres#password"})
    assert "labctl env" in caught.value.hint


def test_one_engine_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = access.Engines()
    assert engines.at("unix:///a") is engines.at("unix:///a")
    assert engines.at("") is not engines.at("unix:///a")
    engines.close()


def test_ssh_needs_a_key_and_waits_for_a_guest_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABCTL_SSH_PRIVATE_KEY", "LABCTL_SSH_KNOWN_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LabError, match="is not set") as caught:
        access.Engines().at("ssh://ops@198.18.0.1")
    assert "labctl env" in caught.value.hint
    monkeypatch.setenv("LABCTL_SSH_PRIVATE_KEY", "pem")
    monkeypatch.setenv("LABCTL_SSH_KNOWN_HOSTS", "/known")
    shell = access._shell("ssh://ops@198.18.0.1")
    assert isinstance(shell, SshShell)
    assert shell.patience_s == access.PATIENCE_S


def test_what_the_catalogue_generates_is_known_to_come() -> None:
    every = "{postgres: {}, kafka: {}, mlflow: {}, ollama: {}, open_webui: {}, portainer: {}}"
    lab = parse_lab(f"name: lab\ntarget: {{sandbox: {{guests: container}}}}\nservices: {every}\n")
    specs = {spec.path: spec for spec in catalogue(lab)}
    assert {"labctl/content", "services/mlflow", "services/open_webui", "store/mlflow", "gitlab/root"} <= specs.keys()
    for path, spec in specs.items():
        assert generated_fields(path) == set(spec.generated), path
    assert generated_fields("services/kafka") == generated_fields("projects/shop") == frozenset()
