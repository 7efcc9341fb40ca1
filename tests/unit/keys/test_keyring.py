"""The lab's keys folder: whole or not at all, private, never deleted."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labctl.adapters.keys import Keyring, generate_identity
from labctl.model.errors import AdapterError, UserError
from labctl.model.secret import Secret

VALUE = "s3cr3t-v4lu3-0f-a-t3st"


@pytest.fixture
def operator(tmp_path: Path) -> tuple[Path, str]:
    file = tmp_path / "operator"
    return file, generate_identity(file)


def test_round_trip_keeps_nothing_plain(tmp_path: Path, operator: tuple[Path, str]) -> None:
    identity, public = operator
    keyring = Keyring(tmp_path / "lab" / "keys")
    assert not keyring.exists("vault")
    keyring.write("vault", {"one": Secret(VALUE), "more": (Secret("a"), Secret(VALUE))}, [public])
    read = keyring.read("vault", [identity])
    assert read == {"one": Secret(VALUE), "more": (Secret("a"), Secret(VALUE))}
    file = keyring.directory / "vault.age"
    assert file.stat().st_mode & 0o777 == 0o600
    assert VALUE.encode() not in file.read_bytes()
    assert VALUE not in repr(read)


def test_disk_full_leaves_the_old_file(tmp_path: Path, operator: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    identity, public = operator
    keyring = Keyring(tmp_path / "keys")
    keyring.write("vault", {"one": Secret("old")}, [public])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("labctl.adapters.keys._files.os.fsync", full)
        with pytest.raises(AdapterError, match="No space left on device"):
            keyring.write("vault", {"one": Secret("new")}, [public])
        with pytest.raises(AdapterError, match="No space left on device"):
            keyring.rehearse([public])
    assert keyring.read("vault", [identity]) == {"one": Secret("old")}
    assert [p.name for p in keyring.directory.iterdir()] == ["vault.age"]


def test_a_leftover_of_a_killed_write_is_no_obstacle(tmp_path: Path, operator: tuple[Path, str]) -> None:
    identity, public = operator
    keyring = Keyring(tmp_path / "keys")
    keyring.directory.mkdir()
    (keyring.directory / ".vault.age.tmp").write_bytes(b"half")
    keyring.write("vault", {"one": Secret("new")}, [public])
    assert keyring.read("vault", [identity]) == {"one": Secret("new")}
    assert [p.name for p in keyring.directory.iterdir()] == ["vault.age"]


def test_rehearsal_leaves_nothing_and_checks_the_recipients(tmp_path: Path, operator: tuple[Path, str]) -> None:
    keyring = Keyring(tmp_path / "keys")
    keyring.rehearse([operator[1]])
    assert list(keyring.directory.iterdir()) == []
    with pytest.raises(UserError, match="not a public key"):
        keyring.rehearse(["age1nonsense"])


def test_retired_files_are_kept_even_twice_in_a_second(tmp_path: Path, operator: tuple[Path, str]) -> None:
    identity, public = operator
    keyring = Keyring(tmp_path / "keys")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert keyring.retire(["vault", "labctl"], moment) is None
    for value in ("first", "second"):
        keyring.write("vault", {"one": Secret(value)}, [public])
        keyring.write("authority", {"one": Secret(value)}, [public])
        assert keyring.retire(["vault", "labctl"], moment) is not None
        assert not keyring.exists("vault")
        assert keyring.exists("authority")
    folders = sorted((keyring.directory / "retired").iterdir())
    assert [f.name for f in folders] == ["20260102T030405Z", "20260102T030405Z-1"]
    assert [Keyring(f).read("vault", [identity])["one"] for f in folders] == [Secret("first"), Secret("second")]


def test_rewrap_follows_the_operators(tmp_path: Path, operator: tuple[Path, str]) -> None:
    identity, public = operator
    second = tmp_path / "second"
    both = [public, generate_identity(second)]
    keyring = Keyring(tmp_path / "keys")
    keyring.write("vault", {"one": Secret("value")}, [public])
    with pytest.raises(UserError):
        keyring.read("vault", [second])
    assert keyring.rewrap("vault", both, [identity])
    assert keyring.read("vault", [second]) == {"one": Secret("value")}
    assert not keyring.rewrap("vault", list(reversed(both)), [identity])


def test_notes(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "keys")
    assert keyring.read_note("begun") is None
    keyring.note("begun", "text")
    assert keyring.read_note("begun") == "text"
    keyring.clear_note("begun")
    keyring.clear_note("begun")
    assert keyring.read_note("begun") is None


def test_missing_damaged_and_foreign_files(tmp_path: Path, operator: tuple[Path, str]) -> None:
    identity, public = operator
    keyring = Keyring(tmp_path / "keys")
    with pytest.raises(AdapterError, match="does not exist"):
        keyring.read("vault", [identity])
    with pytest.raises(AdapterError, match="cannot name"):
        keyring.exists("../up")
    keyring.write("vault", {"one": Secret("value")}, [public])
    file = keyring.directory / "vault.age"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(AdapterError, match="damaged"):
        keyring.read("vault", [identity])
