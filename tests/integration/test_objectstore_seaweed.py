"""A real SeaweedFS over TLS: buckets, locks, limited identities, and a real Terraform with its state in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from labctl.adapters.objectstore import Credentials, Denied, NotThere, ObjectStore, PreconditionFailed, Unready, identities
from labctl.adapters.pki import create_authority, sign
from labctl.adapters.vault import generate
from labctl.model.catalogue import ACCESS_KEY, SECRET_KEY
from labctl.model.errors import AdapterError, UserError
from labctl.model.secret import Secret

pytestmark = pytest.mark.integration

# Tests that run side by side need servers of their own.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
ADDRESS = f"127.86.88.{40 + WORKER}"
ENDPOINT = f"https://{ADDRESS}:9000"
REGION = "eu-west-1"
WEED = Path(sys.executable).with_name("weed")
BUCKETS = ("terraform", "gitlab")


def new_pair() -> Credentials:
    return Credentials(generate(ACCESS_KEY), generate(SECRET_KEY))


@dataclass
class Store:
    """A real SeaweedFS as guest `store` runs it."""

    home: Path
    root: Credentials
    buckets: dict[str, Credentials]
    process: subprocess.Popen[bytes] | None = None

    @property
    def ca_file(self) -> Path:
        return self.home / "ca.pem"

    def prepare(self) -> None:
        authority = create_authority("labctl test")
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.home / "server.key").write_bytes(pem)
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        csr = request.public_bytes(serialization.Encoding.PEM).decode()
        (self.home / "server.crt").write_text(sign(csr, authority, names=("store",), addresses=(ADDRESS,)) + authority.cert_pem)
        self.ca_file.write_text(authority.cert_pem)
        (self.home / "s3.json").write_text(identities(self.root, self.buckets).reveal())
        (self.home / "files").mkdir()

    def start(self) -> None:
        # Ports of its own: servers with the same gRPC port share a socket under /tmp, whatever their address.
        ports = [f"-{name}.port={23881 + 10 * WORKER + i}" for i, name in enumerate(("master", "volume", "filer"))]
        command = [str(WEED), "server", f"-dir={self.home}/files", f"-ip={ADDRESS}", f"-ip.bind={ADDRESS}", *ports]
        command += ["-s3", "-s3.port=9000", f"-s3.port.grpc={33884 + 10 * WORKER}", f"-s3.config={self.home}/s3.json"]
        command += [f"-s3.cert.file={self.home}/server.crt", f"-s3.key.file={self.home}/server.key"]
        command += [
            "-s3.port.lance=0",
            "-s3.port.iceberg=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-master.electionTimeout=1s",
        ]
        command += [f"-s3.localSocket={self.home}/s3.sock", f"-filer.localSocket={self.home}/filer.sock"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        with (self.home / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.home, env=environment)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def as_root(self) -> ObjectStore:
        return self.as_pair(self.root)

    def as_bucket(self, bucket: str) -> ObjectStore:
        return self.as_pair(self.buckets[bucket])

    def as_pair(self, pair: Credentials) -> ObjectStore:
        return ObjectStore(ENDPOINT, REGION, pair.access_key, pair.secret_key, self.ca_file)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if not WEED.exists():
        pytest.fail("no `weed` beside python: uv sync --extra sandbox")
    store = Store(tmp_path_factory.mktemp("store"), new_pair(), {bucket: new_pair() for bucket in BUCKETS})
    store.prepare()
    store.start()
    try:
        store.as_root().wait_ready(60)
        for bucket in BUCKETS:
            store.as_root().ensure_bucket(bucket, versioned=bucket == "terraform")
        yield store
    finally:
        store.kill()


def test_buckets_are_made_once(store: Store) -> None:
    root = store.as_root()
    assert root.buckets() == ("gitlab", "terraform")
    assert (root.versioning("terraform"), root.versioning("gitlab")) == (True, False)
    assert not root.ensure_bucket("terraform", versioned=True)
    assert not root.ensure_bucket("gitlab", versioned=False)
    assert root.ensure_bucket("late", versioned=False)
    assert root.ensure_bucket("late", versioned=True)
    assert root.versioning("late")


def test_lock_probe_passes_and_leaves_nothing(store: Store) -> None:
    for bucket in BUCKETS:
        limited = store.as_bucket(bucket)
        limited.lock_probe(bucket)
        assert limited.keys(bucket, ".labctl/") == ()
        found = limited._client.list_object_versions(Bucket=bucket, Prefix=".labctl/")
        assert not found.get("Versions")
        assert not found.get("DeleteMarkers")


def test_lock_probe_tells_a_store_that_cannot_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = store.as_bucket("gitlab")
    put = limited.put
    monkeypatch.setattr(limited, "put", lambda bucket, key, content, **_: put(bucket, key, content))
    with pytest.raises(AdapterError, match="does not honour If-None-Match"):
        limited.lock_probe("gitlab")
    assert limited.keys("gitlab") == ()


def test_objects(store: Store) -> None:
    limited = store.as_bucket("gitlab")
    limited.put("gitlab", "folder/one", b"content", only_if_absent=True)
    with pytest.raises(PreconditionFailed, match="there already"):
        limited.put("gitlab", "folder/one", b"other", only_if_absent=True)
    assert limited.get("gitlab", "folder/one") == b"content"
    assert limited.keys("gitlab", "folder/") == ("folder/one",)
    limited.delete("gitlab", "folder/one")
    limited.delete("gitlab", "folder/one")
    with pytest.raises(NotThere):
        limited.get("gitlab", "folder/one")


def test_a_limited_identity_is_refused_elsewhere(store: Store) -> None:
    root, limited = store.as_root(), store.as_bucket("gitlab")
    root.put("terraform", "secret-state", b"x")
    assert limited.buckets() == ("gitlab",)
    for attempt in (
        lambda: limited.get("terraform", "secret-state"),
        lambda: limited.put("terraform", "mine", b"x"),
        lambda: limited.delete("terraform", "secret-state"),
        lambda: limited.keys("terraform"),
        lambda: limited.ensure_bucket("mine", versioned=False),
        lambda: limited.versioning("terraform"),
    ):
        with pytest.raises(Denied, match="lacks the right"):
            attempt()
    assert root.get("terraform", "secret-state") == b"x"
    assert "mine" not in root.buckets()


def test_refused_credentials_and_a_foreign_authority(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Denied, match="secret key is wrong"):
        store.as_pair(Credentials(store.root.access_key, Secret("wrong"))).buckets()
    with pytest.raises(Denied, match="does not know this access key"):
        store.as_pair(new_pair()).wait_ready(0.1)
    other = tmp_path / "other.pem"
    other.write_text(create_authority("other").cert_pem)
    with pytest.raises(UserError, match="this lab's authority"):
        ObjectStore(ENDPOINT, REGION, store.root.access_key, store.root.secret_key, other).wait_ready(5)
    nobody = ObjectStore("https://127.86.88.21:9000", REGION, Secret("a"), Secret("b"), store.ca_file)
    with pytest.raises(Unready, match="connection failed"):
        nobody.wait_ready(0.1)


BACKEND = {
    "bucket": "terraform",
    "key": "state/platform/terraform.tfstate",
    "region": REGION,
    "endpoints": {"s3": ENDPOINT},
    "use_lockfile": True,
    "use_path_style": True,
    "skip_credentials_validation": True,
    "skip_metadata_api_check": True,
    "skip_region_validation": True,
    "skip_requesting_account_id": True,
    "skip_s3_checksum": True,
    "max_retries": 1,
}


@dataclass
class Terraform:
    """A real Terraform in a folder of its own, with an environment of its own."""

    folder: Path
    store: Store

    def environment(self, bucket: str, ca_variable: str = "AWS_CA_BUNDLE") -> dict[str, str]:
        pair = self.store.buckets[bucket]
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            "AWS_ACCESS_KEY_ID": pair.access_key.reveal(),
            "AWS_SECRET_ACCESS_KEY": pair.secret_key.reveal(),
            **({ca_variable: str(self.store.ca_file)} if ca_variable else {}),
        }

    def write(self, value: str, command: str = "true") -> None:
        resource = {"input": value, "provisioner": [{"local-exec": {"command": command}}], "triggers_replace": [value]}
        document = {"terraform": {"backend": {"s3": BACKEND}}, "resource": {"terraform_data": {"thing": resource}}}
        (self.folder / "main.tf.json").write_text(json.dumps(document))

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", *arguments, "-no-color"],
            cwd=self.folder,
            env=environment or self.environment("terraform"),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture
def terraform(store: Store, tmp_path: Path) -> Terraform:
    if not shutil.which("terraform"):
        pytest.fail("no `terraform` on PATH: install it, or run the tests where labctl's engine extra is")
    return Terraform(tmp_path, store)


def test_terraform_keeps_its_state_there_under_lock(store: Store, terraform: Terraform) -> None:
    terraform.write("one")
    assert terraform.run("init", "-input=false").returncode == 0
    done = terraform.run("apply", "-auto-approve", "-input=false")
    assert done.returncode == 0, done.stderr
    assert terraform.run("plan", "-detailed-exitcode").returncode == 0
    state = json.loads(store.as_bucket("terraform").get("terraform", "state/platform/terraform.tfstate"))
    assert state["resources"][0]["instances"][0]["attributes"]["input"]["value"] == "one"
    secrets = [store.buckets["terraform"].secret_key.reveal(), store.buckets["terraform"].access_key.reveal()]
    kept = [p for p in terraform.folder.rglob("*") if p.is_file()]
    assert kept
    assert not [p for p in kept for secret in secrets if secret.encode() in p.read_bytes()]

    # A second apply while the first one waits in its provisioner.
    gate = terraform.folder / "gate"
    terraform.write("two", f"touch {gate}.in; while [ ! -e {gate} ]; do sleep 0.1; done")
    first = threading.Thread(target=terraform.run, args=("apply", "-auto-approve", "-input=false"))
    first.start()
    while not Path(f"{gate}.in").exists() and first.is_alive():
        first.join(0.1)
    second = terraform.run("apply", "-auto-approve", "-input=false")
    gate.touch()
    first.join()
    assert second.returncode == 1
    assert "Error acquiring the state lock" in second.stderr
    state = json.loads(store.as_bucket("terraform").get("terraform", "state/platform/terraform.tfstate"))
    assert state["resources"][0]["instances"][0]["attributes"]["input"]["value"] == "two"
    assert store.as_bucket("terraform").keys("terraform", "state/platform/") == ("state/platform/terraform.tfstate",)


@pytest.mark.parametrize(("variable", "code"), [("AWS_CA_BUNDLE", 0), ("SSL_CERT_FILE", 0), ("", 1)])
def test_which_variable_makes_terraform_trust_the_lab(terraform: Terraform, variable: str, code: int) -> None:
    terraform.write("one")
    done = terraform.run("init", "-input=false", environment=terraform.environment("terraform", variable))
    assert done.returncode == code, done.stderr
    assert code == 0 or "certificate signed by unknown authority" in done.stderr


def test_terraform_with_the_identity_of_another_bucket_is_refused(terraform: Terraform) -> None:
    terraform.write("one")
    done = terraform.run("init", "-input=false", environment=terraform.environment("gitlab"))
    assert done.returncode == 1
    assert "StatusCode: 403" in done.stderr


def test_everything_is_there_after_a_kill(store: Store) -> None:
    root = store.as_root()
    root.put("gitlab", "kept", b"content")
    store.kill()
    store.start()
    root.wait_ready(60)
    root.lock_probe("gitlab")
    assert root.get("gitlab", "kept") == b"content"
    assert root.versioning("terraform")
