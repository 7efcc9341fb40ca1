"""The stand-ins' repository: real apt verifies it, real dpkg opens the packages."""

from __future__ import annotations

import ast
import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from labctl.sandbox.gitlab import repository
from tests.gitlabstandin import PACKAGE
from tests.needs import needed

pytestmark = pytest.mark.integration

ADDRESS = "127.93.1.2"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "repository"
    repository.build(folder)
    loop, ready = asyncio.new_event_loop(), threading.Event()
    url: list[str] = []

    async def serve() -> None:
        runner = web.AppRunner(repository.application(folder))
        await runner.setup()
        site = web.TCPSite(runner, ADDRESS, 0)
        await site.start()
        url.append("http://{}:{}".format(*runner.addresses[0][:2]))
        ready.set()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield url[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture
def apt(tmp_path: Path, served: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """apt-get with folders of its own, and the two repositories as `add-repository` writes them."""
    program = needed("apt-get", "apt")
    needed("curl", "curl")
    root = tmp_path / "apt"
    for folder in ("lists/partial", "archives/partial", "sources"):
        (root / folder).mkdir(parents=True)
    (root / "status").write_text("")
    key = root / "key.asc"
    subprocess.run(["curl", "-sf", "--noproxy", "*", "-o", str(key), f"{served}/gpgkey/gpg.key"], check=True)
    for name, path in {"gitlab-ce": "gitlab/gitlab-ce/debian/trixie", "gitlab-runner": "runner/gitlab-runner/debian"}.items():
        text = f"Types: deb\nURIs: {served}/{path}\nSuites: trixie\nComponents: main\nSigned-By: {key}\n"
        (root / f"sources/{name}.sources").write_text(text)
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": root / "sources",
        "Dir::State::lists": root / "lists",
        "Dir::State::status": root / "status",
        "Dir::Cache": root,
        "Dir::Cache::archives": root / "archives",
        "Acquire::http::Proxy": "DIRECT",
        "APT::Sandbox::User": "root",
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [program, *(f"-o{name}={value}" for name, value in options.items()), *words]
        return subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_apt_verifies_it_and_dpkg_opens_the_packages(
    apt: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = apt("update")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert apt("download", "gitlab-ce", "gitlab-runner").returncode == 0
    debs = sorted((tmp_path / "apt").glob("*.deb"))
    assert [deb.name.split("_")[0] for deb in debs] == ["gitlab-ce", "gitlab-runner"]
    for deb in debs:
        subprocess.run([needed("dpkg-deb", "dpkg"), "-x", str(deb), str(tmp_path / "unpacked")], check=True)
    assert (tmp_path / "unpacked/usr/bin/gitlab-ctl").stat().st_mode & 0o777 == 0o755
    runner = tmp_path / "unpacked/usr/lib/gitlab-runner"
    code = f"import sys; sys.path.insert(0, {str(runner)!r}); from standin.runner import main; sys.exit(main(['--version']))"
    assert "19.3.0" in subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_repository_that_somebody_changed_is_refused(
    apt: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    dist = tmp_path / "repository/www/runner/gitlab-runner/debian/dists/trixie"
    text = (dist / "InRelease").read_text()
    (dist / "InRelease").write_text(text.replace("Suite: trixie", "Suite: sid"))
    done = apt("update")
    assert done.returncode != 0, done.stdout
    assert "signature" in done.stderr


def test_the_key_is_not_served_and_stays_the_same(tmp_path: Path, served: str) -> None:
    folder = tmp_path / "repository"
    assert (folder / "signing-key.pgp").stat().st_mode & 0o777 == 0o600
    for path in ("signing-key.pgp", "../signing-key.pgp", "%2e%2e/signing-key.pgp", "built"):
        found = subprocess.run(
            ["curl", "-s", "--noproxy", "*", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", f"{served}/{path}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout in ("403", "404")
    public = (folder / "www/gpgkey/gpg.key").read_bytes()
    release = (folder / "www/runner/gitlab-runner/debian/dists/trixie/InRelease").stat().st_mtime_ns
    repository.build(folder)
    assert (folder / "www/runner/gitlab-runner/debian/dists/trixie/InRelease").stat().st_mtime_ns == release
    shutil.rmtree(folder / "www")
    repository.build(folder)
    assert (folder / "www/gpgkey/gpg.key").read_bytes() == public


def test_what_runs_in_a_guest_needs_the_standard_library_alone() -> None:
    for file in (PACKAGE / "standin").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(str(node.module))
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names, f"{file.name}: {name}"


def test_the_runners_package_is_whole() -> None:
    """It carries a part of the modules only: none of them may import one that is not there."""
    modules = {
        file.path.rsplit("/", 1)[-1].removesuffix(".py") for file in repository.runner_package().files if "/standin/" in file.path
    }
    for module in modules:
        for node in ast.walk(ast.parse((PACKAGE / f"standin/{module}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                assert {node.module} if node.module else {alias.name for alias in node.names} <= modules
