"""Stands in for Portainer: its status, the administrator's login, and the one environment that it would show."""

from __future__ import annotations

import hmac
import os
import secrets
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path

from .serving import Answer, Asked, page, run, server

NAME = "Portainer"
PORT = 9000


def made(version: str, password: str, instance: str, port: int = PORT, host: str = "") -> ThreadingHTTPServer:
    """The server."""
    tokens: set[str] = set()
    status = {"Version": f"{version}-standin", "InstanceID": instance}

    def log_in(asked: Asked) -> Answer:
        given = {key.lower(): str(value) for key, value in asked.body.items()}
        right = hmac.compare_digest(given.get("password", "").encode(), password.encode())
        if not password or given.get("username") != "admin" or not right:
            return Answer({"message": "Invalid credentials", "details": "Unauthorized"}, 422)
        token = secrets.token_urlsafe(32)
        tokens.add(token)
        return Answer({"jwt": token})

    def endpoints(asked: Asked) -> Answer:
        if asked.token not in tokens:
            return Answer({"message": "A valid authorization token is missing", "details": "Unauthorized"}, 401)
        return Answer([{"Id": 1, "Name": "local", "Type": 1, "URL": "unix:///var/run/docker.sock", "Status": 1}])

    routes = {
        ("GET", "/"): lambda _: Answer(page(NAME)),
        ("GET", "/api/system/status"): lambda _: Answer(status),
        ("GET", "/api/status"): lambda _: Answer(status),
        ("GET", "/api/users/admin/check"): lambda _: Answer({}, 200 if password else 404),
        ("POST", "/api/auth"): log_in,
        ("GET", "/api/endpoints"): endpoints,
    }
    return server(NAME, routes, port, host)


def main(arguments: Sequence[str]) -> int:
    """The program `portainer`."""
    parser = ArgumentParser(prog="portainer")
    parser.add_argument("--admin-password-file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("/data"))
    parser.add_argument("-H", "--host", default="")
    given = parser.parse_args(arguments)
    password = given.admin_password_file.read_text().rstrip("\r\n") if given.admin_password_file else ""
    kept = given.data / "instance"
    given.data.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        kept.write_text(secrets.token_hex(16))
    return run(made(os.environ["VERSION"], password, kept.read_text()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
