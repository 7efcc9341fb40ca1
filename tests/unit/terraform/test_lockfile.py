"""The lock file and the CLI configuration as text; `tests/integration/test_mirror.py` holds them against the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.adapters.terraform.lockfile import LockEntry, mirrored_sources, package_hash, write_cli_config, write_lock_file
from labctl.model.errors import AdapterError

ENTRY = LockEntry("registry.terraform.io/bpg/proxmox", "0.111.1", ("zh:b", "h1:a="))
TEXT = """\
# This file is maintained automatically by "terraform init".
# Manual edits may be lost in future updates.

provider "registry.terraform.io/bpg/proxmox" {
  version     = "0.111.1"
  constraints = "0.111.1"
  hashes = [
    "h1:a=",
    "zh:b",
  ]
}
"""
OTHER = """
provider "registry.terraform.io/hashicorp/random" {
  version     = "3.7.2"
  constraints = "~> 3.7"
  hashes = [
    "h1:r=",
  ]
}
"""


def test_the_lock_file_is_written_once(tmp_path: Path) -> None:
    assert write_lock_file(tmp_path, [ENTRY])
    assert (tmp_path / ".terraform.lock.hcl").read_text() == TEXT
    assert not write_lock_file(tmp_path, [ENTRY])
    assert [path.name for path in tmp_path.iterdir()] == [".terraform.lock.hcl"]


def test_other_providers_keep_their_place_and_an_old_hash_goes(tmp_path: Path) -> None:
    (tmp_path / ".terraform.lock.hcl").write_text(TEXT.replace("h1:a=", "h1:old=") + OTHER)
    assert write_lock_file(tmp_path, [ENTRY])
    assert (tmp_path / ".terraform.lock.hcl").read_text() == TEXT + OTHER


def test_constraints_are_as_the_configuration_states_them(tmp_path: Path) -> None:
    write_lock_file(tmp_path, [LockEntry(ENTRY.source, ENTRY.version, ENTRY.hashes, "~> 0.111")])
    assert 'constraints = "~> 0.111"\n' in (tmp_path / ".terraform.lock.hcl").read_text()


def test_the_hash_sees_names_and_contents(tmp_path: Path) -> None:
    hashes = set()
    for name, text in (("a", "x"), ("b", "x"), ("b", "y"), ("sub/b", "y")):
        package = tmp_path / f"{len(hashes)}"
        (package / name).parent.mkdir(parents=True)
        (package / name).write_text(text)
        hashes.add(package_hash(package))
    assert len(hashes) == 4


def test_the_hash_of_nothing_is_that_of_no_lines(tmp_path: Path) -> None:
    # The SHA-256 of the empty string, in base64.
    assert package_hash(tmp_path) == "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_what_is_mirrored_comes_from_the_mirror_and_the_rest_directly(tmp_path: Path) -> None:
    mirror = tmp_path / 'mirror "1"'
    for name in ("registry.terraform.io/bpg/proxmox/0.111.1/linux_amd64", "registry.terraform.io/a/b/1.0.0", ".staging/x/y/z"):
        (mirror / name).mkdir(parents=True)
    assert mirrored_sources(mirror) == ["registry.terraform.io/a/b", "registry.terraform.io/bpg/proxmox"]
    path = tmp_path / "deep" / "terraformrc"
    assert write_cli_config(path, mirror)
    listed = '["registry.terraform.io/a/b", "registry.terraform.io/bpg/proxmox"]'
    assert path.read_text() == (
        "disable_checkpoint = true\nprovider_installation {\n"
        f'  filesystem_mirror {{\n    path    = "{tmp_path}/mirror \\"1\\""\n    include = {listed}\n  }}\n'
        f"  direct {{\n    exclude = {listed}\n  }}\n}}\n"
    )
    assert not write_cli_config(path, mirror)


def test_an_empty_mirror_is_no_mirror(tmp_path: Path) -> None:
    write_cli_config(tmp_path / "rc", tmp_path / "absent")
    assert (tmp_path / "rc").read_text() == "disable_checkpoint = true\nprovider_installation {\n  direct {}\n}\n"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapterError, match="cannot be written"):
        write_lock_file(tmp_path / "file", [ENTRY])
