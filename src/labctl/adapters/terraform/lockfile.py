"""The dependency lock file and the CLI configuration, written from what is in the mirror."""

from __future__ import annotations

import hashlib
import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labctl.model.errors import AdapterError

LOCK_NAME = ".terraform.lock.hcl"

_HEADER = '# This file is maintained automatically by "terraform init".\n# Manual edits may be lost in future updates.\n'
_BLOCK = re.compile(r'^provider "(?P<source>[^"]+)" \{\n.*?^\}\n', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class LockEntry:
    """One provider in a lock file.

    Attributes:
        source: With its host: "registry.terraform.io/bpg/proxmox".
        version: The one selected version.
        hashes: "h1:…" for unpacked packages, "zh:…" for zip files.
        constraints: As the configuration states them; "" takes the version itself. Where they differ, `init` rewrites the file.
    """

    source: str
    version: str
    hashes: tuple[str, ...]
    constraints: str = ""


def package_hash(package: Path) -> str:
    """The `h1:` hash of an unpacked provider package.

    It is the SHA-256, in base64, of one line a file, sorted by name: its SHA-256 in hex, two spaces, its path, a newline.
    Source: golang.org/x/mod/sumdb/dirhash, `Hash1`.

    Raises:
        OSError: A file cannot be read.
    """
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*") if path.is_file()}
    whole = hashlib.sha256()
    for name in sorted(files):
        with files[name].open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{digest}  {name}\n".encode())
    return f"h1:{b64encode(whole.digest()).decode()}"


def write_lock_file(work_dir: Path, entries: Iterable[LockEntry]) -> bool:
    """Writes `.terraform.lock.hcl`, byte for byte as Terraform would; providers that are not named keep their blocks.

    Returns:
        Whether the file changed, that is, whether `init` must run.

    Raises:
        AdapterError: It cannot be written.
    """
    path = work_dir / LOCK_NAME
    old = path.read_text() if path.is_file() else ""
    blocks = {match["source"]: match[0] for match in _BLOCK.finditer(old)}
    blocks |= {entry.source: _block(entry) for entry in entries}
    return _write_if_changed(path, _HEADER + "".join(f"\n{blocks[source]}" for source in sorted(blocks)))


def _block(entry: LockEntry) -> str:
    hashes = "".join(f'    "{one}",\n' for one in sorted(entry.hashes))
    constraints = entry.constraints or entry.version
    return (
        f'provider "{entry.source}" {{\n  version     = "{entry.version}"\n  constraints = "{constraints}"\n'
        f"  hashes = [\n{hashes}  ]\n}}\n"
    )


def write_cli_config(path: Path, mirror: Path) -> bool:
    """Writes Terraform's CLI configuration: what the mirror holds comes from there, everything else from its registry.

    Naming each provider on both sides keeps Terraform from asking a registry for one that is in the mirror, and lets a project
    use others where there is a network. Source: Terraform, "CLI Configuration: Provider Installation".

    Returns:
        Whether the file changed.
    """
    sources = mirrored_sources(mirror)
    listed = json.dumps(sources)
    from_mirror = f"  filesystem_mirror {{\n    path    = {json.dumps(str(mirror.resolve()))}\n    include = {listed}\n  }}\n"
    direct = f"  direct {{\n    exclude = {listed}\n  }}\n"
    installation = from_mirror + direct if sources else "  direct {}\n"
    return _write_if_changed(path, f"disable_checkpoint = true\nprovider_installation {{\n{installation}}}\n")


def mirrored_sources(mirror: Path) -> list[str]:
    """The providers that a mirror holds, as HOST/NAMESPACE/TYPE."""
    return sorted(path.relative_to(mirror).as_posix() for path in mirror.glob("[!.]*/*/*") if path.is_dir())


def _write_if_changed(path: Path, text: str) -> bool:
    if path.is_file() and path.read_text() == text:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        raise AdapterError(
            f"{path} cannot be written: {error.strerror}", hint="Check its owner and the free space there."
        ) from error
    return True
