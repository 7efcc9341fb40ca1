"""An HTTP server with routes, for JSON."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

NOTICE = "labctl's stand-in"
_MAX_BODY = 2**20


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        method: Its method.
        path: Its path, without a query.
        body: Its JSON; an empty object where there is none.
        token: What its Authorization header bears.
    """

    method: str
    path: str
    body: Mapping[str, Any] = field(default_factory=dict)
    token: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        content: JSON, a text that is a page, or an iterator of JSON values, each sent as a line once it is there.
        status: The HTTP status.
    """

    content: Any
    status: int = 200


Route = Callable[[Asked], Answer]


def server(name: str, routes: Mapping[tuple[str, str], Route], port: int, host: str = "") -> ThreadingHTTPServer:
    """A server that is not started yet.

    Args:
        name: What it stands in for.
        routes: What answers, by method and path.
        port: Its port; 0 for any.
        host: Its address; "" for all.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version: ClassVar[str] = f"{name.replace(' ', '-')}-stand-in"

        def _asked(self) -> Asked:
            size = int(self.headers.get("Content-Length") or 0)
            if not 0 <= size <= _MAX_BODY:
                self.close_connection = True
                raise ValueError("too much")
            text = self.rfile.read(size)
            body = json.loads(text) if text.strip() else {}
            if not isinstance(body, dict):
                raise TypeError("no object")
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
            method = "GET" if self.command == "HEAD" else self.command
            return Asked(method, self.path.partition("?")[0], body, token)

        def _answer(self) -> None:
            try:
                asked = self._asked()
            except (ValueError, TypeError):
                answer = Answer({"error": "the body is no JSON object"}, 400)
            else:
                route = routes.get((asked.method, asked.path))
                missing = {"error": f"{NOTICE} for {name} does not know {asked.method} {asked.path}"}
                answer = route(asked) if route else Answer(missing, 404)
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            content = answer.content
            self.send_response(answer.status)
            self.send_header("X-Stand-In", f"{NOTICE} for {name}")
            if isinstance(content, Iterator):
                self._stream(content)
                return
            page = isinstance(content, str)
            data = content.encode() if page else json.dumps(content).encode()
            self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _stream(self, lines: Iterable[Any]) -> None:
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in lines:
                data = json.dumps(line).encode() + b"\n"
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = _answer

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base class)
            if "/health" not in self.path and "/api/system/status" not in self.path:
                super().log_message(format, *args)

    return ThreadingHTTPServer((host, port), Handler)


def run(made: ThreadingHTTPServer) -> int:
    """Serves until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=made.shutdown, daemon=True).start())
    print(f"{NOTICE} listens on port {made.server_port}", flush=True)  # noqa: T201  (it is the program's log)
    made.serve_forever()
    return 0


def page(name: str) -> str:
    """What a browser is shown."""
    return f"<!DOCTYPE html><html><head><title>{name}</title></head><body>This is {NOTICE} for {name}: it has no pages.</body></html>"
