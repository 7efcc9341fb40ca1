"""Encryption to age and SSH keys, with real keys."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.adapters.keys import decrypt, encrypt, generate_identity, public_key
from labctl.model.errors import AdapterError, UserError


def ssh_key(folder: Path, kind: str, passphrase: str = "") -> Path:
    if not shutil.which("ssh-keygen"):
        pytest.fail("ssh-keygen is missing: install openssh-client")
    file = folder / f"id_{kind}"
    bits = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *bits, "-N", passphrase, "-C", "ops", "-f", str(file)], check=True)
    return file


def public_of(private: Path) -> str:
    return private.with_suffix(".pub").read_text().strip()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_key_round_trip(tmp_path: Path, kind: str) -> None:
    private = ssh_key(tmp_path, kind)
    assert decrypt(encrypt([public_of(private)], b"value"), [private]) == b"value"


def test_each_of_several_operators_reads(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    sealed = encrypt([generate_identity(first), generate_identity(second)], b"value")
    assert decrypt(sealed, [first]) == decrypt(sealed, [second]) == b"value"
    assert b"value" not in sealed


def test_identity_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "op"
    public = generate_identity(file)
    content = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert public_key(file) == public
    with pytest.raises(UserError, match="exists already"):
        generate_identity(file)
    assert file.read_bytes() == content
    assert [p.name for p in file.parent.iterdir()] == ["op"]


def test_wrong_key_is_said_as_such(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    public = generate_identity(mine)
    generate_identity(other)
    with pytest.raises(UserError, match=r"operator's key is not at hand: .*other is not the key") as caught:
        decrypt(encrypt([public], b"value"), [other])
    assert "labctl vault unseal --identity" in caught.value.hint


def test_no_identity_is_said_as_such(tmp_path: Path) -> None:
    sealed = encrypt([generate_identity(tmp_path / "mine")], b"value")
    with pytest.raises(UserError, match="no identity file was named"):
        decrypt(sealed, [])
    with pytest.raises(UserError, match=r"gone: does not exist"):
        decrypt(sealed, [tmp_path / "gone"])


def test_passphrase_is_named(tmp_path: Path) -> None:
    private = ssh_key(tmp_path, "ed25519", passphrase="secret words")
    with pytest.raises(UserError, match=r"id_ed25519: is protected by a passphrase"):
        decrypt(encrypt([public_of(private)], b"value"), [private])


def test_a_key_that_fits_wins_over_one_that_is_unusable(tmp_path: Path) -> None:
    locked, mine = ssh_key(tmp_path, "ed25519", passphrase="secret words"), tmp_path / "mine"
    assert decrypt(encrypt([generate_identity(mine)], b"value"), [locked, tmp_path / "gone", mine]) == b"value"


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"hello", "neither"), (b"AGE-SECRET-KEY-1XX", "damaged"), (b"-----BEGIN OPENSSH PRIVATE KEY-----\nxx", "not an SSH key")],
)
def test_unusable_identity_files(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(UserError, match=says):
        decrypt(encrypt([generate_identity(tmp_path / "mine")], b"value"), [file])


def test_ecdsa_is_refused_as_recipient_and_identity(tmp_path: Path) -> None:
    private = ssh_key(tmp_path, "ecdsa")
    with pytest.raises(UserError, match="not a public key"):
        encrypt([public_of(private)], b"value")
    with pytest.raises(UserError, match="ed25519 or RSA"):
        decrypt(encrypt([generate_identity(tmp_path / "mine")], b"value"), [private])


@pytest.mark.parametrize("recipients", [[], ["age1bad"], ["ssh-ed25519 AAAA"], ["hello"]])
def test_bad_recipients(recipients: list[str]) -> None:
    with pytest.raises(UserError):
        encrypt(recipients, b"value")


def test_damage_is_not_taken_for_a_wrong_key(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    sealed = encrypt([generate_identity(mine)], b"value")
    with pytest.raises(AdapterError, match="damaged"):
        decrypt(sealed[:-1], [mine])
    with pytest.raises(AdapterError, match="damaged"):
        decrypt(b"not age at all", [mine])


@given(st.binary(max_size=300))
def test_any_content_comes_back(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("keys") / "op"
    assert decrypt(encrypt([generate_identity(file)], content), [file]) == content


def test_a_private_key_that_is_given_for_a_public_one_is_not_quoted(tmp_path: Path) -> None:
    generate_identity(tmp_path / "identity")
    private = (tmp_path / "identity").read_text().splitlines()[-1]
    with pytest.raises(UserError, match="but a private one") as caught:
        encrypt([private], b"value")
    assert private[16:24] not in f"{caught.value} {caught.value.hint}"
