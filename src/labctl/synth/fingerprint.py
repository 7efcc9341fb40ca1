"""The content hash that decides whether a synthesis can be skipped, computed without importing what it covers."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import labctl

if TYPE_CHECKING:
    from labctl.model.stackcontext import StackContext

_TOP_LEVEL = ("stacks", "layers")
_ROOMS = ("model", "cloudinit", "services", "synth")
_DISTRIBUTIONS = ("cdktf", "cdktn", "constructs", "jsii")


def fingerprint(context: StackContext) -> str:
    """A hash of everything that the synthesised JSON is made from: the lab, its authority and SSH key, the code and the CDK."""
    digest = hashlib.sha256()
    for part in (
        context.lab.model_dump_json(),
        context.authority_pem,
        context.own_ssh_key,
        # Only how the two folders lie to each other enters the JSON, so that a moved lab is not synthesised again.
        os.path.relpath(context.state_dir.absolute(), context.outdir.absolute()),
        *_way_to_sources(context),
        json.dumps(context.prevent_destroy),
        os.environ.get("LABCTL_CDK", ""),
        f"python {sys.version_info.major}.{sys.version_info.minor}",
        *(f"{name} {_version(name)}" for name in _DISTRIBUTIONS),
    ):
        _add(digest, part.encode())
    for name, folder in _folders():
        for path in sorted(_files(folder)):
            _add(digest, f"{name}/{path.relative_to(folder)}".encode())
            _add(digest, path.read_bytes())
    return digest.hexdigest()


def _way_to_sources(context: StackContext) -> list[str]:
    """Where the sources of the lab's images lie, from the folder of the stacks: that stands in the JSON too."""
    spec = find_spec("layers") if context.lab.app_specs() else None
    places = spec.submodule_search_locations if spec else None
    return [os.path.relpath(place, context.outdir.absolute()) for place in places or ()]


def _add(digest: hashlib._Hash, part: bytes) -> None:
    """Adds a part with its length, so that no two lists of parts run together into the same bytes."""
    digest.update(f"{len(part)}:".encode())
    digest.update(part)


def _folders() -> list[tuple[str, Path]]:
    rooms = Path(labctl.__file__).parent
    found = [(f"labctl.{room}", rooms / room) for room in _ROOMS]
    for name in _TOP_LEVEL:
        spec = find_spec(name)
        found += [(name, Path(place)) for place in (spec.submodule_search_locations or ())] if spec else []
    return found


def _files(folder: Path) -> list[Path]:
    return [Path(root, name) for root, _, names in os.walk(folder) if "__pycache__" not in root for name in names]


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
