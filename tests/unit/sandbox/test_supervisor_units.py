"""The supervisor without a daemon: ports, settings, what a home says."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from labctl.model.errors import UserError
from labctl.sandbox import SandboxConfig, reset, start, status, stop
from labctl.sandbox.credentials import CredentialFiles
from labctl.sandbox.guests.runtime_folder import file_system, remove_runtime_folder, runtime_folder
from labctl.sandbox.listeners import listener

ADDRESS = "127.86.71.1"


def test_a_taken_port_is_named_with_who_takes_it(tmp_path: Path) -> None:
    with socket.create_server((ADDRESS, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError) as caught:
            start(tmp_path / "home", SandboxConfig(address=ADDRESS, network="127.86.71.0/24", api_port=port))
    assert f"{ADDRESS}:{port}" in caught.value.message
    assert f"(process {os.getpid()})" in caught.value.message
    assert status(tmp_path / "home") is None
    assert listener(ADDRESS, port) == ""


@pytest.mark.parametrize(
    ("address", "network"), [("192.0.2.1", "127.86.0.0/24"), ("127.0.0.1", "192.0.2.0/24"), ("pve", "127.0.0.0/8")]
)
def test_it_listens_on_loopback_addresses_only(address: str, network: str) -> None:
    with pytest.raises(UserError, match="sandbox"):
        SandboxConfig(address=address, network=network)


def test_a_home_that_never_was_has_no_status_and_nothing_to_stop(tmp_path: Path) -> None:
    assert status(tmp_path / "none") is None
    assert stop(tmp_path / "none") is False
    reset(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_credentials_are_private_and_made_once(tmp_path: Path) -> None:
    files = CredentialFiles(tmp_path / "home")
    first = files.make(ADDRESS)
    kept = {path: path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()}
    assert files.make(ADDRESS) == first
    assert all(path.read_bytes() == content for path, content in kept.items())
    for path in (files.values, files.server_key, files.ssh_key, files.ssh_host_key):
        assert path.stat().st_mode & 0o777 == 0o600, path
    files.make("127.86.71.2")
    assert files.read() == first
    assert files.server_certificate.read_bytes() != kept[files.server_certificate]


def test_the_runtime_folder_is_private_on_a_tmpfs_and_the_same_each_time(tmp_path: Path) -> None:
    folder = runtime_folder(tmp_path)
    try:
        assert folder == runtime_folder(tmp_path)
        assert folder != runtime_folder(tmp_path / "other")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert file_system(folder) == "tmpfs"
    finally:
        for home in (tmp_path, tmp_path / "other"):
            remove_runtime_folder(home)
    assert not folder.exists()


def test_the_runtime_folder_stays_where_it_was_when_the_session_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = runtime_folder(tmp_path / "session")
    session.mkdir(exist_ok=True)
    home = tmp_path / "home"
    home.mkdir()
    try:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
        first = runtime_folder(home)
        assert first.is_relative_to(session)
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert runtime_folder(home) == first
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        if file_system(tmp_path) != "tmpfs":
            assert not runtime_folder(tmp_path / "elsewhere").is_relative_to(tmp_path), "that is a disk"
    finally:
        for one in ("session", "elsewhere"):
            remove_runtime_folder(tmp_path / one)
