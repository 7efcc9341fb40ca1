"""The apt repository of the stand-ins, in the layout of packages.gitlab.com (October 2026 and later).

`/gpgkey/gpg.key`, `/gitlab/gitlab-ce/<distribution>/<code name>` and `/runner/gitlab-runner/<distribution>`: what
`platform.gitlab.package_repository` may point at.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from aiohttp import web

from labctl.sandbox.gitlab.debian import Package, PackageFile, deb, packages_index, release
from labctl.sandbox.gitlab.signing import signing_key

GITLAB_VERSION = "19.3.0-ce.0+standin"
RUNNER_VERSION = "19.3.0-1+standin"
DISTRIBUTION, CODENAME = "debian", "trixie"
ARCHITECTURES = ("amd64", "arm64")
_ORIGIN = "packages.gitlab.com"
_SERVED, _KEY, _STAMP = "www", "signing-key.pgp", "built"
_LIBRARY = "/opt/gitlab/standin"
_RUNNER_LIBRARY = "/usr/lib/gitlab-runner"
_RUNNER_MODULES = ("__init__.py", "places.py", "state.py", "runner.py")


def build(folder: Path) -> None:
    """Makes the repository in `folder`, or leaves it where it is up to date. The signing key stays the same."""
    folder.mkdir(parents=True, exist_ok=True)
    key = signing_key(folder / _KEY)
    packages = (gitlab_package(), runner_package())
    content = {package.name: deb(package) for package in packages}
    wanted = hashlib.sha256(key.public + b"".join(content.values())).hexdigest()
    stamp, served = folder / _STAMP, folder / _SERVED
    if stamp.exists() and stamp.read_text() == wanted and served.is_dir():
        return
    stamp.unlink(missing_ok=True)
    new = folder / f"{_SERVED}.new"
    shutil.rmtree(new, ignore_errors=True)
    _write(new / "gpgkey/gpg.key", key.public)
    moment = datetime.now(UTC)
    places = {"gitlab-ce": f"gitlab/gitlab-ce/{DISTRIBUTION}/{CODENAME}", "gitlab-runner": f"runner/gitlab-runner/{DISTRIBUTION}"}
    for package in packages:
        root = new / places[package.name]
        path = f"pool/{CODENAME}/main/{package.file_name}"
        _write(root / path, content[package.name])
        index = packages_index(package, path, content[package.name])
        indices: dict[str, bytes] = {}
        for architecture in ARCHITECTURES:
            base = f"main/binary-{architecture}/Packages"
            indices |= {base: index, f"{base}.gz": gzip.compress(index, mtime=0)}
        for name, text in indices.items():
            _write(root / "dists" / CODENAME / name, text)
        text = release(CODENAME, _ORIGIN, ARCHITECTURES, indices, moment)
        dist = root / "dists" / CODENAME
        _write(dist / "Release", text)
        _write(dist / "Release.gpg", key.detached(text))
        _write(dist / "InRelease", key.clearsigned(text))
    shutil.rmtree(served, ignore_errors=True)
    new.rename(served)
    stamp.write_text(wanted)


def application(folder: Path, *more: Callable[[web.Application], None]) -> web.Application:
    """Serves what `build` made in `folder`; the signing key lies outside of what is served. `more` adds routes before it."""
    found = web.Application()
    for add in more:
        add(found)
    found.router.add_static("/", folder / _SERVED, follow_symlinks=False)
    return found


def gitlab_package() -> Package:
    """The stand-in for GitLab."""
    parts = files("labctl.sandbox.gitlab") / "packages" / "gitlab-ce"
    launchers = {
        "/usr/bin/gitlab-ctl": ("ctl", _LIBRARY),
        "/usr/bin/gitlab-rails": ("rails", _LIBRARY),
        f"{_LIBRARY}/gitlab-web": ("server", _LIBRARY),
    }
    return Package(
        "gitlab-ce",
        GITLAB_VERSION,
        ("ca-certificates", "docker-registry", "openssh-server", "openssl", "python3 (>= 3.11)", "ruby"),
        "labctl's stand-in for GitLab Community Edition: its commands, its API, its registry; no pages, no Git",
        (
            *_modules(f"{_LIBRARY}/standin"),
            *(PackageFile(path, _launcher(*to), 0o755) for path, to in launchers.items()),
            PackageFile(f"{_LIBRARY}/check.rb", _bytes(parts / "check.rb")),
            PackageFile(f"{_LIBRARY}/rails.rb", _bytes(parts / "rails.rb")),
            *(PackageFile(f"/usr/lib/systemd/system/{name}", _bytes(parts / name)) for name in _names(parts, ".service")),
        ),
        _scripts(parts),
    )


def runner_package() -> Package:
    """The stand-in for the runner."""
    parts = files("labctl.sandbox.gitlab") / "packages" / "gitlab-runner"
    return Package(
        "gitlab-runner",
        RUNNER_VERSION,
        ("ca-certificates", "python3 (>= 3.11)"),
        "labctl's stand-in for GitLab Runner: registers and asks for jobs, runs none",
        (
            *(file for file in _modules(f"{_RUNNER_LIBRARY}/standin") if file.path.rsplit("/", 1)[-1] in _RUNNER_MODULES),
            PackageFile("/usr/bin/gitlab-runner", _launcher("runner", _RUNNER_LIBRARY), 0o755),
            *(PackageFile(f"/usr/lib/systemd/system/{name}", _bytes(parts / name)) for name in _names(parts, ".service")),
        ),
        _scripts(parts),
    )


def _launcher(module: str, library: str) -> bytes:
    return f"""\
#!/usr/bin/python3 -I
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "{library}")
from standin.{module} import main

sys.exit(main(sys.argv[1:]))
""".encode()


def _modules(target: str) -> Iterator[PackageFile]:
    for entry in sorted((files("labctl.sandbox.gitlab") / "standin").iterdir(), key=lambda one: one.name):
        if entry.name.endswith(".py"):
            yield PackageFile(f"{target}/{entry.name}", _bytes(entry))


def _names(parts: Traversable, suffix: str) -> list[str]:
    return sorted(entry.name for entry in parts.iterdir() if entry.name.endswith(suffix))


def _scripts(parts: Traversable) -> dict[str, bytes]:
    return {name: _bytes(parts / name) for name in ("postinst", "prerm")}


def _bytes(entry: Traversable) -> bytes:
    return entry.read_bytes()


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
