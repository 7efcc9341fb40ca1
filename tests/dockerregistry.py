"""A Docker registry for tests: Debian's, without installing it."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.needs import lacking, needed

URL = "http://deb.debian.org/debian/pool/main/d/docker-registry/docker-registry_2.8.2%2bds1-1_amd64.deb"
SHA256 = "a9bd06c0e006854608f8469b4371743f40604ad90975532bb3b7ceeb72fe2913"
CACHE = Path(__file__).parents[1] / ".cache" / "labctl" / "docker-registry-2.8.2"


def _program() -> Path:
    """The program; fetched once (5 MB)."""
    program = CACHE / "usr" / "bin" / "docker-registry"
    if program.exists():
        return program
    unpack = needed("dpkg-deb", "dpkg")
    CACHE.mkdir(parents=True, exist_ok=True)
    package = CACHE / "package.deb"
    try:
        with urllib.request.urlopen(URL, timeout=60) as answer:
            content = answer.read()
    except OSError as error:
        lacking(f"{URL} cannot be fetched ({error})")
    assert hashlib.sha256(content).hexdigest() == SHA256
    package.write_bytes(content)
    subprocess.run([unpack, "-x", str(package), str(CACHE)], check=True)
    package.unlink()
    return program


@contextmanager
def registry(folder: Path, auth: str = "", address: str = "") -> Iterator[str]:
    """A registry on this machine; yields its address, which engines trust without TLS because it is in 127.0.0.0/8.

    `auth` is who may use it, as in its configuration; anybody where there is none. One on the same folder and at the same address
    is the same registry again.
    """
    if not address:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
    folder.mkdir(exist_ok=True)
    config = folder / "config.yml"
    storage = f"{{filesystem: {{rootdirectory: {folder}/data}}}}"
    access = f"auth: {auth}\n" if auth else ""
    config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {storage}\nhttp: {{addr: {address}}}\n{access}")
    with (folder / "log").open("wb") as log, subprocess.Popen([_program(), "serve", config], stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 15
            while True:
                try:
                    urllib.request.urlopen(f"http://{address}/v2/", timeout=2).close()
                    break
                except urllib.error.HTTPError:
                    break  # it is there, and wants a login
                except OSError:
                    assert time.monotonic() < deadline, (folder / "log").read_text()
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()


class _False(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2, "digest": f"sha256:{'1' * 64}"}
        content = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}).encode()
        self.send_response(200)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_said: object) -> None:
        """Says nothing."""


@contextmanager
def false_registry() -> Iterator[str]:
    """A registry that answers with one and the same manifest, whatever it is asked for; yields its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _False) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
