"""A real OpenBao as guest `vault` runs it, and a lab's folder beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from labctl.adapters.keys import Keyring, generate_identity
from labctl.adapters.pki import create_authority, sign
from labctl.adapters.vault import Vault
from labctl.engine.steps.vault import VaultSession, ensure_vault
from labctl.model.lab import Lab
from labctl.model.secret import Secret

# Tests that run side by side need servers of their own.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
ADDRESS = f"127.86.88.{10 + WORKER}"
BAO = Path(sys.executable).with_name("bao")


@dataclass
class Server:
    """A real OpenBao as guest `vault` runs it."""

    home: Path
    address: str = ADDRESS
    process: subprocess.Popen[bytes] | None = None
    resets: int = 0
    authority_pem: str = ""
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})

    @property
    def url(self) -> str:
        return f"https://{self.address}:8200"

    @property
    def ca_file(self) -> Path:
        return self.home / "ca.pem"

    def prepare(self) -> None:
        (self.home / "raft").mkdir(parents=True)
        authority = create_authority("labctl test")
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.home / "server.key").write_bytes(pem)
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        cert = sign(csr, authority, names=("vault",), addresses=(self.address,))
        (self.home / "server.crt").write_text(cert + authority.cert_pem)
        self.ca_file.write_text(authority.cert_pem)
        (self.home / "bao.hcl").write_text(f"""
            disable_mlock = true
            api_addr = "{self.url}"
            cluster_addr = "https://{self.address}:8201"
            storage "raft" {{
              path = "{self.home}/raft"
              node_id = "vault"
              performance_multiplier = 1
            }}
            listener "tcp" {{
              address = "{self.address}:8200"
              tls_cert_file = "{self.home}/server.crt"
              tls_key_file = "{self.home}/server.key"
            }}
            audit "file" "main" {{
              options = {{
                file_path = "{self.home}/audit.log"
              }}
            }}
        """)

    def start(self) -> None:
        log = (self.home / "bao.log").open("ab")
        command = [str(BAO), "server", f"-config={self.home}/bao.hcl"]
        # The package's `bao` starts the real binary as a child: a group of its own, so that both can be ended.
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, start_new_session=True)
        self.vault().wait_reachable(30)

    def stop(self) -> None:
        if self.process:
            # Whatever survives in the group is ended for good: a server left behind would answer for the next one.
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(20)
            deadline = time.monotonic() + 10
            while self.vault().status().reachable:
                if time.monotonic() > deadline:
                    os.killpg(self.process.pid, signal.SIGKILL)
                time.sleep(0.05)
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def reset(self) -> None:
        self.resets += 1
        self.stop()
        shutil.rmtree(self.home / "raft")
        (self.home / "raft").mkdir()
        self.start()

    def audit_log(self) -> str:
        log = self.home / "audit.log"
        return log.read_text() if log.exists() else ""

    def vault(self, token: Secret | None = None) -> Vault:
        return Vault(self.url, self.ca_file, token)


@dataclass
class Bench:
    """A lab's folder, its operator, and a server."""

    server: Server
    folder: Path
    identity: Path
    public: str
    lab: Lab
    lines: list[str] = field(default_factory=list)

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.folder / "keys")

    def ensure(self, **changed: object) -> VaultSession:
        arguments: dict[str, object] = {
            "vault_factory": self.server.vault,
            "keyring": self.keyring,
            "recipients": [self.public],
            "identities": [self.identity],
            "lab": self.lab,
            "reset": self.server.reset,
            "progress": self.lines.append,
        }
        return ensure_vault(**{**arguments, **changed})  # type: ignore[arg-type]

    def values(self, session: VaultSession) -> dict[str, dict[str, str]]:
        read = {entry.path: session.client.read(entry.path)[1] for entry in session.client.list_secrets()}
        return {path: {name: value.reveal() for name, value in fields.items()} for path, fields in read.items()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if not BAO.exists():
        pytest.fail("no `bao` beside python: uv sync --extra sandbox")
    server = Server(tmp_path / "server")
    server.prepare()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bench(server: Server, tmp_path: Path) -> Bench:
    identity = tmp_path / "operator.key"
    public = generate_identity(identity)
    lab = Lab.model_validate({"name": "datalab", "target": {"sandbox": {}}})
    return Bench(server, tmp_path / "lab", identity, public, lab)
