"""A guest's files: nothing leads out of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.sandbox.guests.files import GuestFiles


@pytest.fixture
def files(tmp_path: Path) -> GuestFiles:
    made = GuestFiles(tmp_path / "disk", tmp_path / "run")
    made.make()
    return made


def test_run_is_apart_from_the_disk(files: GuestFiles) -> None:
    files.write("/run/lab/secret", b"s", 0o600)
    files.write("/var/run/lab/other", b"o")
    assert {path.name for path in (files.run / "lab").iterdir()} == {"secret", "other"}
    assert not list(files.root.rglob("secret"))
    files.empty_run()
    assert not files.exists("/run/lab/secret")


def test_new_files_have_the_agents_mode_and_existing_ones_keep_theirs(files: GuestFiles) -> None:
    files.write("/etc/a", b"1")
    assert stat.S_IMODE(files.mode("/etc/a")) == 0o666
    files.chmod("/etc/a", 0o600)
    files.write("/etc/a", b"22")
    assert (stat.S_IMODE(files.mode("/etc/a")), files.read("/etc/a")) == (0o600, b"22")


@pytest.mark.parametrize("path", ["relative", "/../etc/passwd", "/etc/../../x", "/run/../../x", "", "/etc/a\0b"])
def test_paths_that_climb_are_refused(files: GuestFiles, path: str) -> None:
    with pytest.raises(PermissionError):
        files.write(path, b"x")
    with pytest.raises(PermissionError):
        files.read(path)


def test_no_link_is_followed_neither_at_the_end_nor_on_the_way(files: GuestFiles, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (files.root / "etc" / "link").symlink_to(outside / "secret")
    (files.root / "folder").symlink_to(outside)
    for path in ("/etc/link", "/folder/secret"):
        with pytest.raises(OSError, match=r"Too many levels|Not a directory"):
            files.read(path)
        with pytest.raises(OSError, match=r"Too many levels|Not a directory"):
            files.write(path, b"x")
    assert (outside / "secret").read_text() == "s"
    files.remove("/etc/link")
    assert (outside / "secret").exists()


def test_a_named_pipe_does_not_hang_the_sandbox(files: GuestFiles) -> None:
    os.mkfifo(files.root / "etc" / "pipe")
    assert files.read("/etc/pipe") == b""


def test_a_move_between_disk_and_run_copies(files: GuestFiles) -> None:
    files.write("/etc/new", b"x", 0o640)
    files.rename("/etc/new", "/run/lab/new")
    assert files.read("/run/lab/new") == b"x"
    assert stat.S_IMODE(files.mode("/run/lab/new")) == 0o640
    assert not files.exists("/etc/new")


@settings(max_examples=200)
@given(st.lists(st.sampled_from(["..", ".", "etc", "run", "var", "", "lab", "~", "x"]), max_size=8))
def test_whatever_the_path_what_is_written_lies_inside(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    top = tmp_path_factory.mktemp("guest")
    files = GuestFiles(top / "in" / "disk", top / "in" / "run")
    files.make()
    try:
        files.write("/" + "/".join(parts), b"marker")
    except OSError:
        return
    written = [path for path in top.rglob("*") if path.is_file()]
    assert written
    assert all(path.is_relative_to(top / "in") for path in written)
