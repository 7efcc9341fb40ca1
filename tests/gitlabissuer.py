"""A GitLab as an issuer of tokens for jobs: it publishes the keys that it signs with, and hands out artifacts."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from labctl.model.secret import Secret


def text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass
class Issuer:
    """As GitLab signs for its jobs, with its keys at the same path."""

    url: str
    key: rsa.RSAPrivateKey
    project: str = "lab/infra"
    artifacts: dict[str, Path] = field(default_factory=dict)

    def keys(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        n = text(numbers.n.to_bytes(256, "big"))
        return {"keys": [{"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", "n": n, "e": text(b"\x01\x00\x01")}]}

    def token(self, *, key: rsa.RSAPrivateKey | None = None, **claims: Any) -> Secret:
        now = int(time.time())
        payload = {
            "iss": self.url,
            "aud": "labctl",
            "sub": f"project_path:{self.project}:ref_type:branch:ref:main",
            "project_path": self.project,
            "ref": "main",
            "ref_type": "branch",
            "ref_protected": "true",
            "iat": now,
            "nbf": now - 5,
            "exp": now + 600,
        } | claims
        signed = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT", "kid": "one"}, payload))
        signature = (key or self.key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return Secret(f"{signed}.{text(signature)}")


def new_key() -> rsa.RSAPrivateKey:
    """A key as GitLab's."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@contextmanager
def serving(address: str, project: str = "lab/infra") -> Iterator[Issuer]:
    """Serves the keys, and each file of `artifacts` by its path to whoever shows a token."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b""
            if self.path == "/oauth/discovery/keys":
                body = json.dumps(found.keys()).encode()
            elif self.path in found.artifacts and self.headers.get("PRIVATE-TOKEN"):
                body = found.artifacts[self.path].read_bytes()
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    found = Issuer(f"http://{address}:{server.server_address[1]}", new_key(), project)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
