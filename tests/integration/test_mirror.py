"""The provider mirror against a real TLS registry on loopback, the real engine's hashes, and a real build of the real provider.

The built provider is kept in `.cache/labctl/mirror` of the checkout, so that only the first run builds it.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import ssl
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from labctl.adapters.terraform import (
    BPG_PROXMOX,
    LockEntry,
    ProviderSpec,
    Terraform,
    ensure_provider,
    find_engine,
    go_build,
    package_hash,
    this_platform,
    write_cli_config,
    write_lock_file,
)
from labctl.adapters.terraform.go_build import GoUnavailable
from labctl.model.errors import AdapterError, UserError
from tests.needs import lacking

pytestmark = pytest.mark.integration

SPEC = ProviderSpec("acme", "thing", "1.2.3", "example.com/terraform-provider-thing", "h1:pinned=", (1, 26))
ZIP = f"terraform-provider-thing_1.2.3_{this_platform()}.zip"
CACHE = Path(os.environ.get("LABCTL_MIRROR") or Path(__file__).parents[2] / ".cache" / "labctl" / "mirror")


class Registry:
    """A provider registry on loopback; `pages` are what it serves, by path."""

    def __init__(self, folder: Path) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.ca_file = folder / "ca.pem"
        registry = self

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                page = registry.pages.get(self.path)
                self.send_response(200 if page is not None else 404)
                self.send_header("content-length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, *_args: object) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(folder, self.ca_file))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.ca_file)
        return session

    def publish(self, files: dict[str, str]) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as package:
            for name, text in files.items():
                package.writestr(name, text)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        os_name, _, arch = this_platform().partition("_")
        self.pages = {
            "/.well-known/terraform.json": json.dumps({"providers.v1": "/v1/providers/"}).encode(),
            f"/v1/providers/acme/thing/1.2.3/download/{os_name}/{arch}": json.dumps(
                {
                    "filename": ZIP,
                    "shasum": digest,
                    "download_url": f"https://{self.host}/{ZIP}",
                    "shasums_url": f"https://{self.host}/SHA256SUMS",
                }
            ).encode(),
            "/SHA256SUMS": f"{'0' * 64}  another.zip\n{digest}  {ZIP}\n".encode(),
            f"/{ZIP}": buffer.getvalue(),
        }


def _certificate(folder: Path, ca_file: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    ca_file.write_bytes(public)
    chain = folder / "server.pem"
    chain.write_bytes(private + public)
    return chain


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    served = Registry(tmp_path)
    served.publish({SPEC.binary_name: "a provider", "LICENSE": "a licence"})
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def without_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_args: object) -> None:
        raise GoUnavailable("there is no Go 1.26 or newer.")

    monkeypatch.setattr(go_build, "find_go", none)


def _staged(mirror: Path) -> list[Path]:
    return [path for path in (mirror / ".staging").iterdir() if path.is_dir()]


def test_a_registry_that_answers_is_used(registry: Registry, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    entry = ensure_provider(mirror, SPEC, host=registry.host, session=registry.session())
    assert entry.origin == "registry"
    assert sorted(path.name for path in entry.path.iterdir()) == ["LICENSE", SPEC.binary_name]
    assert (entry.path / SPEC.binary_name).stat().st_mode & 0o777 == 0o755
    assert _staged(mirror) == []
    asked = len(registry.asked)
    assert ensure_provider(mirror, SPEC, host=registry.host, session=registry.session()).origin == "mirror"
    assert len(registry.asked) == asked


@pytest.mark.usefixtures("without_go")
def test_a_package_that_was_changed_is_refused_and_not_built_around(registry: Registry, tmp_path: Path) -> None:
    registry.pages[f"/{ZIP}"] += b"x"
    with pytest.raises(AdapterError, match="wrong checksum"):
        ensure_provider(tmp_path / "mirror", SPEC, host=registry.host, session=registry.session())
    assert not (tmp_path / "mirror" / registry.host).exists()
    assert _staged(tmp_path / "mirror") == []


def test_a_registry_that_disagrees_with_the_release_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.pages["/SHA256SUMS"] = f"{'1' * 64}  {ZIP}\n".encode()
    with pytest.raises(AdapterError, match="disagree about the checksum"):
        ensure_provider(tmp_path / "mirror", SPEC, host=registry.host, session=registry.session())


@pytest.mark.parametrize("name", ["../outside", "/outside", "sub/outside"])
def test_a_package_does_not_write_elsewhere(registry: Registry, tmp_path: Path, name: str) -> None:
    registry.publish({SPEC.binary_name: "a provider", name: "x"})
    with pytest.raises(AdapterError, match="no package holds"):
        ensure_provider(tmp_path / "mirror", SPEC, host=registry.host, session=registry.session())


def test_a_package_without_its_program_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.publish({"LICENSE": "a licence"})
    with pytest.raises(AdapterError, match="does not hold"):
        ensure_provider(tmp_path / "mirror", SPEC, host=registry.host, session=registry.session())


@pytest.mark.usefixtures("without_go")
@pytest.mark.parametrize("gone", ["/.well-known/terraform.json", "/SHA256SUMS", f"/{ZIP}"])
def test_a_registry_that_lacks_something_counts_as_silent(registry: Registry, tmp_path: Path, gone: str) -> None:
    del registry.pages[gone]
    with pytest.raises(UserError, match=r"HTTP 404 at .*no Go 1\.26 or newer"):
        ensure_provider(tmp_path / "mirror", SPEC, host=registry.host, session=registry.session())


@pytest.mark.usefixtures("without_go")
def test_an_unknown_authority_counts_as_silent(registry: Registry, tmp_path: Path) -> None:
    session = requests.Session()
    session.trust_env = False
    with pytest.raises(UserError, match="SSLError"):
        ensure_provider(tmp_path / "mirror", SPEC, host=registry.host, session=session)


@pytest.mark.usefixtures("without_go")
def test_a_silent_port_is_passed_over_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="does not answer"):
        ensure_provider(tmp_path / "mirror", SPEC, host="127.0.0.1:1")
    assert time.monotonic() - began < 5


def _stack(work_dir: Path, mirror: Path, source: str, version: str) -> Terraform:
    work_dir.mkdir()
    provider = {"thing": {"source": source, "version": version}}
    (work_dir / "cdk.tf.json").write_text(json.dumps({"terraform": {"required_providers": provider}}))
    write_cli_config(work_dir / "rc", mirror)
    return Terraform(find_engine(), work_dir, stack="test", home=work_dir / "home", cli_config=work_dir / "rc")


def _locked(package: Path) -> LockEntry:
    return LockEntry(f"{find_engine().registry_host}/acme/thing", "1.2.3", (package_hash(package),))


def _package(mirror: Path, files: dict[str, str]) -> Path:
    package = mirror / find_engine().registry_host / "acme/thing/1.2.3" / this_platform()
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return package


def test_the_lock_file_is_the_one_that_terraform_writes(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / ".staging" / "left-over").mkdir(parents=True)
    package = _package(mirror, {SPEC.binary_name: "#!/bin/sh\n", "LICENSE": "x", "docs/a b.md": "y", "docs.md": "z"})
    theirs = _stack(tmp_path / "theirs", mirror, "acme/thing", "1.2.3")
    theirs.providers_lock(mirror, [this_platform()])
    ours = tmp_path / "ours"
    ours.mkdir()
    write_lock_file(ours, [_locked(package)])
    # OpenTofu names itself in the first line, and takes a file that names Terraform.
    written = (theirs.work_dir / ".terraform.lock.hcl").read_text().replace('"tofu init"', '"terraform init"')
    assert (ours / ".terraform.lock.hcl").read_text() == written


def test_init_takes_our_lock_file_as_it_is(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    package = _package(mirror, {SPEC.binary_name: "#!/bin/sh\n"})
    stack = _stack(tmp_path / "work", mirror, "acme/thing", "1.2.3")
    write_lock_file(stack.work_dir, [_locked(package)])
    text = (stack.work_dir / ".terraform.lock.hcl").read_text()
    result = stack.init()
    assert result.warnings == ()
    assert (stack.work_dir / ".terraform.lock.hcl").read_text() == text


def test_a_package_that_changed_after_the_lock_is_refused(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    package = _package(mirror, {SPEC.binary_name: "#!/bin/sh\n"})
    stack = _stack(tmp_path / "work", mirror, "acme/thing", "1.2.3")
    write_lock_file(stack.work_dir, [_locked(package)])
    (package / SPEC.binary_name).write_text("#!/bin/sh\necho changed\n")
    with pytest.raises(AdapterError) as caught:
        stack.init()
    assert getattr(caught.value, "rule", "") == "provider-checksum"


def test_a_provider_that_is_not_mirrored_is_named(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    _package(mirror, {SPEC.binary_name: "#!/bin/sh\n"})
    stack = _stack(tmp_path / "work", mirror, "acme/thing", "9.9.9")
    with pytest.raises(AdapterError, match="acme/thing is neither in the mirror") as caught:
        stack.init()
    assert getattr(caught.value, "rule", "") == "provider-missing"


def test_the_real_provider_is_there_and_initialises_fast(tmp_path: Path) -> None:
    host = find_engine().registry_host
    try:
        entry = ensure_provider(CACHE, BPG_PROXMOX, host=host)
    except UserError as error:
        lacking(f"{error} {error.hint}")
    stack = _stack(tmp_path / "work", CACHE, "bpg/proxmox", "0.111.1")
    write_lock_file(stack.work_dir, [entry.lock_entry()])
    result = stack.init()
    assert result.warnings == ()
    # 0.15 s on an idle machine; the bound only tells linking from copying or asking a network.
    assert result.seconds < 2
    linked = stack.work_dir / ".terraform/providers" / host / "bpg/proxmox/0.111.1" / this_platform()
    assert linked.is_symlink()
    schemas = stack.providers_schema()["provider_schemas"][f"{host}/bpg/proxmox"]["resource_schemas"]
    assert "proxmox_virtual_environment_vm" in schemas
