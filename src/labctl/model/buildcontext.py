"""What belongs to the source of an image, and the hash by which a changed source is seen. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath

LEFT_OUT = frozenset(
    {"__pycache__", "node_modules", ".venv", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
)
"""Folders that programs make beside a source. They are no part of it, whatever lies in them."""


def in_context(path: PurePosixPath) -> bool:
    """Whether a file, by its path from the context's folder, belongs to the source."""
    return not LEFT_OUT.intersection(path.parts) and path.suffix not in {".pyc", ".pyo"}


def context_hash(files: Mapping[str, bytes], build_args: Mapping[str, str]) -> str:
    """SHA-256 over a source and the arguments that it is built with; neither times, owners nor order enter it.

    Args:
        files: Content by path from the context's folder, with `/`.
        build_args: As `docker build` takes them.
    """
    digest = hashlib.sha256()
    for part in _parts(files, build_args):
        # With its length, so that no two lists of parts run together into the same bytes.
        digest.update(f"{len(part)}:".encode())
        digest.update(part)
    return digest.hexdigest()


def _parts(files: Mapping[str, bytes], build_args: Mapping[str, str]) -> list[bytes]:
    parts = [str(len(files)).encode()]
    for name in sorted(files):
        parts += [name.encode(), files[name]]
    for name in sorted(build_args):
        parts += [name.encode(), build_args[name].encode()]
    return parts
