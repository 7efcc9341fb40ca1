"""A server for Terraform's `http` backend: states and their locks in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StateServer:
    """What it holds, by path.

    Attributes:
        url: Where it answers.
        states: State documents.
        locks: What the holders of locks wrote.
        requests: Each method and path, in order.
    """

    url: str = ""
    states: dict[str, bytes] = field(default_factory=dict)
    locks: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def backend(self, name: str) -> dict[str, Any]:
        """Settings of the backend for one state."""
        address = f"{self.url}/{name}"
        return {"address": address, "lock_address": address, "unlock_address": address}


@contextmanager
def state_server() -> Iterator[StateServer]:
    """The server while the block runs."""
    held = StateServer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.split("?")[0]
            held.requests.append((self.command, path))
            if self.command == "GET":
                found = held.states.get(path)
                self._answer(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, found or b"")
            elif self.command == "LOCK" and path in held.locks:
                self._answer(HTTPStatus.LOCKED, held.locks[path])
            else:
                if self.command == "LOCK":
                    held.locks[path] = body
                elif self.command == "UNLOCK":
                    held.locks.pop(path, None)
                elif self.command == "POST":
                    held.states[path] = body
                else:
                    held.states.pop(path, None)
                self._answer(HTTPStatus.OK)

        do_GET = do_POST = do_DELETE = do_LOCK = do_UNLOCK = _handle  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        held.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()
