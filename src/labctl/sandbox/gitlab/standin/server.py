"""GitLab's web side: the API, the health checks, the registry's logins, and a socket for `gitlab-rails`."""

from __future__ import annotations

import ipaddress
import json
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

from . import access, deploytokens, issues, mergerequests, pipelines, places, projects, rails, registry, runners
from .state import Row, State
from .web import Answer, Problem, Request, Routes, body_fields, fields

OPEN = Routes((*runners.RUNNER_ROUTES, *pipelines.TRIGGER_ROUTES))
"""What runners and trigger tokens ask; these are shown in the request itself."""
USERS = Routes(
    (
        *access.ROUTES,
        *runners.ROUTES,
        *projects.ROUTES,
        *deploytokens.ROUTES,
        *issues.ROUTES,
        *mergerequests.ROUTES,
        *pipelines.ROUTES,
    )
)

BAD_GATEWAY = (
    "<html><head><title>GitLab is not responding (502)</title></head><body>Whoops, GitLab is taking too much time.</body></html>"
)
SIGN_IN = "<!DOCTYPE html><html><head><title>Sign in · GitLab</title></head><body>labctl's stand-in has no pages.</body></html>"
NOT_FOUND = "<!DOCTYPE html><html><head><title>The page you're looking for could not be found (404)</title></head></html>"


def answer_api(state: State, request: Request) -> Answer:
    """Answers a request to the API."""
    try:
        try:
            handler = OPEN.find(request)
        except Problem:
            # As in GitLab, who asks is found out before what: an unknown path without a token is a 401.
            access.authenticate(state, request)
            handler = USERS.find(request)
        found = handler(state, request)
    except Problem as problem:
        return Answer(problem.status, problem.body)
    return found if isinstance(found, Answer) else Answer(200, found)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "nginx"
    sys_version = ""
    state: ClassVar[State]
    config: ClassVar[Row]
    ready_at: ClassVar[float] = 0.0

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        try:
            answer = self._answer(content)
        except Exception:  # noqa: BLE001 (whatever happens, a server answers)
            traceback.print_exc()
            answer = Answer(500, {"message": "500 Internal Server Error"})
        self._send(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _serve  # noqa: N815

    def _answer(self, content: bytes) -> Answer:
        if time.monotonic() < self.ready_at:
            return Answer(502, BAD_GATEWAY, content_type="text/html")
        url = urlsplit(self.path)
        if url.path in ("/-/readiness", "/-/liveness", "/-/health"):
            return self._health(url.path)
        if url.path == "/jwt/auth":
            return self._registry_login(parse_qs(url.query))
        if not url.path.startswith("/api/v4"):
            location = {"Location": "/users/sign_in"} if url.path != "/users/sign_in" else {}
            return Answer(302 if location else 200, SIGN_IN, location, "text/html; charset=utf-8")
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            body = body_fields(headers.get("content-type", ""), content)
        except Problem as problem:
            return Answer(problem.status, problem.body)
        query = fields(parse_qsl(url.query, keep_blank_values=True))
        path = url.path.removeprefix("/api/v4")
        request = Request(self.command, path, query, body, headers, client=self.client_address[0])
        with self.state.lock if self.command == "GET" else self.state.changing():
            return answer_api(self.state, request)

    def _health(self, path: str) -> Answer:
        """As GitLab's: only for the addresses of `monitoring_whitelist`, for everybody else the page is not there."""
        client = ipaddress.ip_address(self.client_address[0])
        allowed = self.config.get("monitoring_whitelist") or ["127.0.0.0/8", "::1/128"]
        if not any(client in ipaddress.ip_network(network, strict=False) for network in allowed):
            return Answer(404, NOT_FOUND, content_type="text/html; charset=utf-8")
        if path == "/-/health":
            return Answer(200, "GitLab OK", content_type="text/plain; charset=utf-8")
        return Answer(200, {"status": "ok", "master_check": [{"status": "ok"}]} if path == "/-/readiness" else {"status": "ok"})

    def _registry_login(self, query: Mapping[str, list[str]]) -> Answer:
        with self.state.lock:
            try:
                who = registry.login(self.state, self.headers.get("Authorization") or "")
            except PermissionError:
                denied = {"code": "DENIED", "message": "access forbidden"}
                return Answer(403, {"errors": [denied]})
            scopes = [one for value in query.get("scope", []) for one in value.split(" ")]
            if who == registry.ANYBODY and not scopes:
                return Answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "HTTP Basic: Access denied"}]})
            allowed = registry.granted(self.state, who, scopes)
        token = registry.access_token(who.name, query.get("service", [registry.SERVICE])[0], allowed)
        return Answer(200, {"token": token})

    def _send(self, answer: Answer) -> None:
        empty = answer.status == 204 or answer.body is None
        text = b"" if empty else (answer.body if isinstance(answer.body, str) else json.dumps(answer.body)).encode()
        self.send_response(answer.status)
        if not empty:
            self.send_header("Content-Type", answer.content_type)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(text)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """One line a request, for the journal, without what stands behind a question mark."""
        line = (format % args).split("?", 1)
        print(f"{self.client_address[0]} {line[0]}" + (f" …{line[1][-8:]}" if len(line) > 1 else ""), file=sys.stderr, flush=True)  # noqa: T201


class RailsHandler(socketserver.StreamRequestHandler):
    """One call of `gitlab-rails`: a JSON line in, a JSON line out."""

    state: ClassVar[State]

    def handle(self) -> None:
        """Runs the call."""
        with self.state.changing():
            answer = rails.perform(self.state, json.loads(self.rfile.readline()))
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class _RailsServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def main(argv: list[str]) -> int:
    """Serves until it is stopped. Arguments: the address and the port to listen on, else those of gitlab.rb."""
    config = json.loads(places.at(places.CONFIG).read_text())
    state = State.load()
    with state.changing():
        state.data |= {name: config[name] for name in ("external_url", "registry_host")}
    host, port = (argv[0], int(argv[1])) if len(argv) == 2 else ("0.0.0.0", config["port"])  # noqa: S104 (GitLab listens everywhere)
    Handler.state = RailsHandler.state = state
    Handler.config = config
    # Puma takes its time; until then nginx answers for it.
    Handler.ready_at = time.monotonic() + float(config.get("boot_s", 2.0))
    socket = places.at(places.RAILS_SOCKET)
    socket.unlink(missing_ok=True)
    rails_server = _RailsServer(str(socket), RailsHandler)
    socket.chmod(0o600)
    threading.Thread(target=rails_server.serve_forever, daemon=True).start()
    server = _Server((host, port), Handler)
    print(f"listening on {host}:{server.server_address[1]}", file=sys.stderr, flush=True)  # noqa: T201
    server.serve_forever()
    return 0
