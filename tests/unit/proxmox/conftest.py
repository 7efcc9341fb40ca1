"""A TLS server on loopback that answers what a test tells it to, and notes what it was asked."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from labctl.adapters.proxmox import Proxmox
from labctl.adapters.proxmox._session import Session
from labctl.model.secret import Secret

ADDRESS = "127.86.179.1"
TOKEN_ID = "labctl@pve!labctl"
TOKEN_VALUE = "9c1f2a4e-token-value"


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    fields: dict[str, list[str]]
    authorization: str


@dataclass(frozen=True)
class Answer:
    data: object = None
    status: int = 200
    reason: str = "OK"
    errors: dict[str, str] | None = None
    raw: bytes | None = None
    content_type: str = "application/json;charset=UTF-8"
    location: str = ""
    drop: bool = False
    wait_s: float = 0.0
    message_in_body: bool = True


@dataclass
class Stub:
    """`answers[(method, path)]` is a list that is used up from the front; its last one stays."""

    endpoint: str
    ca_file: Path
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def on(self, method: str, path: str, *answers: Answer | object) -> None:
        self.answers[method, path] = [a if isinstance(a, Answer) else Answer(a) for a in answers]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        queue = self.answers.get((asked.method, asked.path))
        if not queue:
            return Answer(status=501, reason=f"Method '{asked.method} {asked.path}' not implemented")
        return queue.pop(0) if len(queue) > 1 else queue[0]

    def sent(self) -> list[tuple[str, str]]:
        return [(one.method, one.path) for one in self.asked]


def certificate(folder: Path, name: str, address: str, *, plain_authority: bool = False) -> tuple[Path, Path, Path]:
    """An authority's PEM, a server certificate for `address` that it signed, and its key."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} authority")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), critical=not plain_authority)
    leaf = builder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
    )
    paths = (folder / f"{name}-ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    paths[0].write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: Stub

    def log_message(self, *args: object) -> None:
        pass

    def _respond(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        text = url.query + ("&" if url.query and length else "") + self.rfile.read(length).decode()
        path = unquote(url.path).removeprefix("/api2/json")
        fields = parse_qs(text, keep_blank_values=True)
        answer = self.stub.answer(Asked(self.command, path, fields, self.headers.get("Authorization", "")))
        if answer.wait_s:
            self.stub.released.wait(answer.wait_s)
        if answer.drop:
            self.close_connection = True
            self.connection.shutdown(2)
            return
        body: dict[str, object] = {"data": answer.data}
        if answer.status >= 400 and answer.message_in_body:
            body["message"] = answer.reason + "\n"
        if answer.errors:
            body["errors"] = answer.errors
        content = answer.raw if answer.raw is not None else json.dumps(body).encode()
        self.send_response(answer.status, answer.reason)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(content)))
        if answer.location:
            self.send_header("Location", answer.location)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _respond  # noqa: N815 - the names that http.server calls


@pytest.fixture
def make_stub(tmp_path: Path) -> Iterator[Callable[..., Stub]]:
    """Starts stubs; they end with the test."""
    running: list[tuple[ThreadingHTTPServer, Stub]] = []

    def make(*, tls: bool = True, certified_for: str = ADDRESS, plain_authority: bool = False) -> Stub:
        name = f"stub{len(running)}"
        ca_file, cert, key = certificate(tmp_path, name, certified_for, plain_authority=plain_authority)
        handler = type("Handler", (_Handler,), {})
        server = ThreadingHTTPServer((ADDRESS, 0), handler)
        server.daemon_threads = True
        stub = handler.stub = Stub(f"https://{ADDRESS}:{server.server_address[1]}", ca_file)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append((server, stub))
        return stub

    yield make
    for server, stub in running:
        stub.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def stub(make_stub: Callable[..., Stub]) -> Stub:
    return make_stub()


class Clock:
    """Time that passes only while one waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client(endpoint: str, ca_file: Path | None, clock: Clock, timeout_s: float = 5.0) -> Proxmox:
    session = Session(endpoint, TOKEN_ID, Secret(TOKEN_VALUE), ca_file, timeout_s, sleep=clock.sleep)
    return Proxmox(session, sleep=clock.sleep, clock=clock)


@pytest.fixture
def connect(clock: Clock) -> Iterator[Callable[..., Proxmox]]:
    """Opens clients; they are closed with the test."""
    opened: list[Proxmox] = []

    def open_client(endpoint: str, ca_file: Path | None, timeout_s: float = 5.0) -> Proxmox:
        opened.append(client(endpoint, ca_file, clock, timeout_s))
        return opened[-1]

    yield open_client
    for one in opened:
        one.close()


@pytest.fixture
def pve(stub: Stub, connect: Callable[..., Proxmox]) -> Proxmox:
    """A client of `stub`, which knows guest 102 (a VM) and 300 (a container) on node pve."""
    stub.on(
        "GET",
        "/cluster/resources",
        [
            {"vmid": 300, "type": "lxc", "node": "pve", "name": "dns", "status": "running"},
            {
                "vmid": 102,
                "type": "qemu",
                "node": "pve",
                "name": "vault",
                "status": "running",
                "pool": "datalab",
                "tags": "role-vault;labctl;datalab",
                "template": 0,
            },
        ],
    )
    return connect(stub.endpoint, stub.ca_file)


@pytest.fixture
def answer() -> type[Answer]:
    return Answer
