"""Secrets by reference, and engines by address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import labctl.adapters.vault
from labctl.adapters.compose import LocalShell, SshShell
from labctl.model.errors import UserError
from labctl.model.secret import Secret
from labctl.provider import access
from labctl.provider.access import Engines, read_secrets

STORED = {
    "services/postgres": {"password": Secret("one"), "user": Secret("two")},
    "labctl/content": {"key": Secret("three")},
}


class FakeVault:
    """Answers what is stored, and remembers what was read."""

    read_paths: list[str]
    opened: tuple[str, Path, Secret]

    def __init__(self, address: str, authority: Path, token: Secret) -> None:
        type(self).opened, type(self).read_paths = (address, authority, token), []

    def read(self, path: str) -> tuple[int, dict[str, Secret]]:
        self.read_paths.append(path)
        if path not in STORED:
            raise UserError(f"there is no secret {path}", hint="Did you mean 'services/postgres'?")
        return 1, STORED[path]


@pytest.fixture(autouse=True)
def _vault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labctl.adapters.vault, "Vault", FakeVault)
    for name, value in (("VAULT_ADDR", "https://vault"), ("VAULT_TOKEN", "t"), ("VAULT_CACERT", "/ca.pem")):
        monkeypatch.setenv(name, value)


def test_values_come_with_the_key_of_their_hashes() -> None:
    found, key = read_secrets({"PASSWORD": "services/postgres#password", "NAME": "services/postgres#user"})
    assert {name: value.reveal() for name, value in found.items()} == {"PASSWORD": "one", "NAME": "two"}
    assert key is not None
    assert key.reveal() == "three"
    assert FakeVault.read_paths == ["services/postgres", "labctl/content"], "each path is read once"
    address, authority, token = FakeVault.opened
    assert (address, authority, token.reveal()) == ("https://vault", Path("/ca.pem"), "t")


def test_without_references_no_vault_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_ADDR")
    assert read_secrets({}) == ({}, None)


@pytest.mark.parametrize("name", ["VAULT_ADDR", "VAULT_TOKEN", "VAULT_CACERT"])
def test_a_vault_that_is_not_in_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(UserError, match="is not set") as error:
        read_secrets({"A": "services/postgres#password"})
    assert "labctl env" in error.value.hint


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("services/postgres", "no reference", "path#field"),
        ("#password", "no reference", "path#field"),
        ("services/postgres#", "no reference", "path#field"),
        ("services/postgres#pasword", "no field 'pasword'", "Did you mean 'password'?"),
        ("services/postgress#password", "no secret", "Did you mean 'services/postgres'?"),
    ],
)
def test_a_reference_that_names_nothing(reference: str, message: str, hint: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_secrets({"PASSWORD": reference})
    assert error.value.where == ("" if message == "no secret" else "PASSWORD")
    assert hint in error.value.hint


def test_one_engine_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr(access, "_shell", lambda host: built.append(host) or LocalShell(host))  # type: ignore[func-returns-value]
    engines = Engines()
    assert engines.at("unix:///a") is engines.at("unix:///a")
    assert engines.at("") is not engines.at("unix:///a")
    assert built == ["unix:///a", ""]
    engines.close()


def test_ssh_needs_a_key_and_waits_for_a_guest_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABCTL_SSH_PRIVATE_KEY", "LABCTL_SSH_KNOWN_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="is not set") as error:
        Engines().at("ssh://ops@198.18.0.1")
    assert "labctl env" in error.value.hint
    monkeypatch.setenv("LABCTL_SSH_PRIVATE_KEY", "pem")
    monkeypatch.setenv("LABCTL_SSH_KNOWN_HOSTS", "/known")
    shell: Any = access._shell("ssh://ops@198.18.0.1")
    assert isinstance(shell, SshShell)
    assert shell.patience_s == access.PATIENCE_S
