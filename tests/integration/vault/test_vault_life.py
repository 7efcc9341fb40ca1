"""The life of a real OpenBao: from nothing to ready, cut off at every point, restarted, destroyed, somebody else's."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.keys import Keyring, Payload
from labctl.adapters.vault import Denied, InitResult, Vault
from labctl.engine.steps.vault import KEYS, OPERATOR_KEYS, VaultSession, adopt_root_token, open_vault, unseal_vault
from labctl.engine.steps.vault_actions import Action
from labctl.model.catalogue import catalogue
from labctl.model.errors import UserError
from labctl.model.secret import Secret

pytestmark = pytest.mark.integration


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def assert_finished(bench: Any, session: VaultSession) -> None:
    """The one final state, however it was reached."""
    assert session.client.lookup_self().policies == ("default", "labctl")
    assert set(bench.keyring.read(KEYS, [bench.identity])) == {"unseal_keys"}
    assert set(bench.keyring.read(OPERATOR_KEYS, [bench.identity])) == {"role_id", "secret_id"}
    assert sorted(p.name for p in bench.keyring.directory.iterdir() if p.is_file()) == ["labctl.age", "vault.age"]
    generated = {spec.path: set(spec.generated) for spec in catalogue(bench.lab) if spec.generated}
    assert {path: set(fields) for path, fields in bench.values(session).items()} == generated


def plain_values(bench: Any, session: VaultSession) -> list[str]:
    unseal = bench.keyring.read(KEYS, [bench.identity])["unseal_keys"]
    operator = bench.keyring.read(OPERATOR_KEYS, [bench.identity])["secret_id"]
    assert isinstance(unseal, tuple)
    assert isinstance(operator, Secret)
    stored = [value for fields in bench.values(session).values() for value in fields.values()]
    return [unseal[0].reveal(), operator.reveal(), *stored]


def test_up_again_restarted_sealed_and_unsealed(bench: Any) -> None:
    first = bench.ensure()
    assert_finished(bench, first)
    values = bench.values(first)
    assert "root token revoked" in first.changes
    assert first.seeded.awaited == ("gitlab/runner", "platform/ssh")

    again = bench.ensure()
    assert again.changes == ()
    assert again.seeded.created == ()
    assert bench.values(again) == values

    bench.server.restart()
    with pytest.raises(UserError, match="operator's key is not at hand") as caught:
        bench.ensure(identities=[])
    assert "labctl vault unseal --identity" in caught.value.hint
    assert bench.server.vault().status().sealed
    with pytest.raises(UserError, match="is sealed"):
        open_vault(bench.server.vault(), bench.keyring, [bench.identity])
    after = bench.ensure()
    assert after.changes == ("unsealed",)
    assert bench.values(after) == values

    bench.server.restart()
    assert unseal_vault(bench.server.vault(), bench.keyring, [bench.identity])
    assert not unseal_vault(bench.server.vault(), bench.keyring, [bench.identity])
    opened = open_vault(bench.server.vault(), bench.keyring, [bench.identity])
    assert opened.read("store/root")[0] == 1

    searched = [p for p in bench.folder.rglob("*") if p.is_file()]
    assert searched
    for secret in plain_values(bench, after):
        assert len(secret) >= 20
        assert not [p for p in searched if secret.encode() in p.read_bytes()]
        assert not [line for line in (*bench.lines, *first.changes) if secret in line]
    assert {p.stat().st_mode & 0o777 for p in searched} == {0o600}
    opened.revoke_self()
    assert not opened.token_alive()
    opened.revoke_self()


class RememberingVault(Vault):
    """Keeps the root token, to ask for it afterwards; can lose the answer of an initialisation."""

    roots: list[Secret]
    lose = False

    def initialise(self, shares: int = 1, threshold: int = 1) -> InitResult:
        result = super().initialise(shares, threshold)
        type(self).roots.append(result.root_token)
        if type(self).lose:
            type(self).lose = False
            raise Killed
        return result


@pytest.fixture
def remembering() -> type[RememberingVault]:
    RememberingVault.roots = []
    return RememberingVault


def test_killed_after_every_single_action(bench: Any, remembering: type[RememberingVault]) -> None:
    """Each run does one action and is killed at the next; in between, the server is restarted every second time."""
    done: list[str] = []
    session = None
    for run in range(40):
        lines: list[str] = []

        def progress(line: str, lines: list[str] = lines) -> None:
            lines.append(line)
            if len(lines) > 1 and lines[-2] not in done:
                done.append(lines[-2])
                raise Killed

        try:
            session = bench.ensure(progress=progress, vault_factory=lambda: remembering(bench.server.url, bench.server.ca_file))
            break
        except Killed:
            if run % 2:
                bench.server.restart()
    assert session is not None
    assert_finished(bench, session)
    assert set(done) == {action.value for action in Action if action not in (Action.RETIRE, Action.RESET)}
    assert bench.server.resets == 0
    assert len(remembering.roots) == 1
    assert not bench.server.vault(remembering.roots[0]).token_alive()
    assert bench.ensure().changes == ()


def test_keys_lost_between_initialisation_and_keeping(bench: Any, remembering: type[RememberingVault]) -> None:
    def factory() -> Vault:
        return remembering(bench.server.url, bench.server.ca_file)

    remembering.lose = True
    with pytest.raises(Killed):
        bench.ensure(vault_factory=factory)
    assert bench.server.vault().status().initialised
    assert not bench.keyring.exists(KEYS)
    session = bench.ensure(vault_factory=factory, audit_log=bench.server.audit_log)
    assert bench.server.resets == 1
    assert_finished(bench, session)
    assert len(remembering.roots) == 2
    assert not bench.server.vault(remembering.roots[1]).token_alive()


def test_killed_while_raft_prepared_its_storage(bench: Any) -> None:
    """Raft's log is there, OpenBao's own data is not: it counts as not initialised, and refuses to be."""
    bench.server.vault().initialise()
    bench.server.stop()
    (bench.server.home / "raft" / "vault.db").unlink()
    bench.server.start()
    session = bench.ensure(audit_log=bench.server.audit_log)
    assert bench.server.resets == 1
    assert_finished(bench, session)


class FailingKeyring(Keyring):
    """Is killed at the n-th write of a file."""

    def __init__(self, directory: Path, name: str, at: int) -> None:
        super().__init__(directory)
        self.name, self.left = name, at

    def write(self, name: str, payload: Payload, recipients: object) -> None:
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                raise Killed
        super().write(name, payload, recipients)  # type: ignore[arg-type]


def test_killed_between_an_answer_and_its_file(bench: Any) -> None:
    """New operator credentials that were never kept; a revoked root token that is still in the file."""
    # The first run keeps the keys and dies at the operator's credentials; the second one dies at rewriting the keys.
    for name in (OPERATOR_KEYS, KEYS):
        with pytest.raises(Killed):
            bench.ensure(keyring=FailingKeyring(bench.keyring.directory, name, 1))
    assert "root_token" in bench.keyring.read(KEYS, [bench.identity])
    assert_finished(bench, bench.ensure())
    assert bench.ensure().changes == ()


def test_a_used_vault_is_never_reset_and_lost_keys_are_said(bench: Any) -> None:
    bench.ensure()
    aside = bench.folder / "elsewhere"
    bench.keyring.directory.rename(aside)
    with pytest.raises(UserError, match="keys are not in the lab's folder"):
        bench.ensure()
    # A colleague brought it up while this run died just before its own request: the note alone would allow a reset.
    bench.keyring.note("vault-initialisation", f"{bench.server.url} 2026-01-01T00:00:00+00:00")
    with pytest.raises(UserError, match="keys are not in the lab's folder"):
        bench.ensure()
    bench.server.restart()
    with pytest.raises(UserError, match="used by somebody else"):
        bench.ensure(audit_log=bench.server.audit_log)
    assert bench.server.resets == 0
    shutil.rmtree(bench.keyring.directory)
    aside.rename(bench.keyring.directory)
    assert bench.ensure().changes == ("unsealed",)


def test_destroyed_and_rebuilt_keeps_the_old_keys(bench: Any) -> None:
    first = bench.ensure()
    old = bench.values(first)
    old_keys = bench.keyring.read(KEYS, [bench.identity])
    bench.server.reset()
    session = bench.ensure()
    assert_finished(bench, session)
    assert bench.values(session) != old
    (retired,) = (bench.keyring.directory / "retired").iterdir()
    assert Keyring(retired).read(KEYS, [bench.identity]) == old_keys

    for name in ("vault.age", "labctl.age"):
        shutil.copy(retired / name, bench.keyring.directory / name)
    bench.server.restart()
    with pytest.raises(UserError, match="does not open this Vault"):
        bench.ensure()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def generate_root(path: Path, unseal_key: Secret) -> Secret:
    """A new root token, as docs/secrets.md tells to make it."""

    def put(what: str, body: dict[str, str]) -> Any:
        connection = UnixConnection(path)
        connection.request("PUT", f"/v1/sys/generate-root/{what}", json.dumps(body))
        return json.loads(connection.getresponse().read())

    begun = put("attempt", {})
    ended = put("update", {"key": unseal_key.reveal(), "nonce": begun["nonce"]})
    mixed = base64.b64decode(ended["encoded_root_token"] + "==")
    return Secret("".join(chr(a ^ b) for a, b in zip(mixed, begun["otp"].encode(), strict=True)))


def test_lost_operator_credentials_are_made_anew_with_a_generated_root_token(bench: Any, tmp_path: Path) -> None:
    values = bench.values(bench.ensure())
    (bench.keyring.directory / "labctl.age").unlink()
    with pytest.raises(UserError, match="credentials for the Vault are not kept") as caught:
        bench.ensure()
    assert "When labctl cannot log in" in caught.value.hint

    path = tmp_path / "root.sock"
    with (bench.server.home / "bao.hcl").open("a") as config:
        config.write(f'listener "unix" {{\n  address = "{path}"\n  disable_unauthed_generate_root_endpoints = false\n}}\n')
    bench.server.restart()
    unseal_vault(bench.server.vault(), bench.keyring, [bench.identity])
    root = generate_root(path, bench.keyring.read(KEYS, [bench.identity])["unseal_keys"][0])
    with pytest.raises(Denied):
        adopt_root_token(bench.server.vault(), bench.keyring, [bench.public], [bench.identity], Secret("s.wrong"))
    adopt_root_token(bench.server.vault(), bench.keyring, [bench.public], [bench.identity], root)

    session = bench.ensure()
    assert_finished(bench, session)
    assert bench.values(session) == values
    assert not bench.server.vault(root).token_alive()
