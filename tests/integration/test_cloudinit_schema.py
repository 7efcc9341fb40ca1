"""Every document against the schema of the cloud-init that Debian 13 ships (older ones accept unknown keys)."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import lacking

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "cloud-init"
DOCUMENTS = sorted((ROOT / "tests" / "golden" / "cloudinit").glob("*.yaml"))

SOURCE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n"
REQUIREMENTS = ("configobj", "jinja2", "jsonpatch", "jsonschema", "oauthlib", "pyyaml", "requests")


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} {command[-1]}: {(done.stderr or done.stdout).strip()[-300:]}")


def _fetch() -> None:
    """Debian trixie's package, unpacked, with its Python dependencies from PyPI; apt works in folders of its own."""
    for folder in ("etc", "state/lists/partial", "cache/archives/partial"):
        (CACHE / "apt" / folder).mkdir(parents=True, exist_ok=True)
    (CACHE / "apt" / "etc" / "sources.list").write_text(SOURCE)
    apt = [
        "apt-get",
        *("-o", f"Dir::Etc::sourcelist={CACHE}/apt/etc/sources.list", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", f"Dir::State={CACHE}/apt/state", "-o", f"Dir::Cache={CACHE}/apt/cache"),
        *("-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"),
    ]
    _run(*apt, "update", cwd=CACHE)
    _run(*apt, "download", "cloud-init", cwd=CACHE)
    package = max(CACHE.glob("cloud-init_*.deb"))
    _run("dpkg-deb", "--extract", package.name, "unpacked", cwd=CACHE)
    _run(sys.executable, "-m", "venv", "venv", cwd=CACHE)
    _run("venv/bin/pip", "install", "--quiet", *REQUIREMENTS, cwd=CACHE)
    (CACHE / "complete").touch()


@pytest.fixture(scope="module")
def cloud_init(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command `cloud-init`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        try:
            if not (CACHE / "complete").exists():
                _fetch()
        except (OSError, subprocess.TimeoutExpired) as error:
            lacking(f"cloud-init of Debian trixie cannot be had: {error}; it needs apt, debian-archive-keyring and PyPI")
    library = CACHE / "unpacked" / "usr" / "lib" / "python3" / "dist-packages"
    command = [str(CACHE / "venv" / "bin" / "python"), "-c"]
    return [*command, f"import sys; sys.path.insert(0, {str(library)!r}); from cloudinit.cmd.main import main; sys.exit(main())"]


def _schema(cloud_init: list[str], file: Path) -> subprocess.CompletedProcess[str]:
    command = [*cloud_init, "schema", "--config-file", str(file), "--annotate"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_a_cloud_init_that_refuses_unknown_keys(cloud_init: list[str]) -> None:
    done = subprocess.run([*cloud_init, "--version"], capture_output=True, text=True, timeout=60, check=True)
    major, minor = (int(n) for n in (done.stdout + done.stderr).split()[1].split("-")[0].split(".")[:2])
    assert (major, minor) >= (25, 1)


def test_there_is_a_document_for_every_variant() -> None:
    assert len(DOCUMENTS) == 8


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_document_is_valid(document: Path, cloud_init: list[str]) -> None:
    done = _schema(cloud_init, document)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Valid schema" in done.stdout
    assert "deprecated" not in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ssh_pwauth: false\n", "ssh_pwauth: false\nssh_password_auth: false\n"),
        ('permissions: "0644"', "permissions: 0644"),
        ("package_update: true\n", "package_update: sometimes\n"),
        ("  - set -e\n", "  - {run: set -e}\n"),
    ],
    ids=["unknown key", "mode without quotes", "no boolean", "no command"],
)
def test_a_slip_is_noticed(old: str, new: str, cloud_init: list[str], tmp_path: Path) -> None:
    text = DOCUMENTS[0].read_text()
    assert old in text
    broken = tmp_path / "broken.yaml"
    broken.write_text(text.replace(old, new, 1))
    done = _schema(cloud_init, broken)
    assert done.returncode != 0
    assert "Valid schema" not in done.stdout
