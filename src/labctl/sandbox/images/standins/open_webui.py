"""Stands in for Open WebUI: health, the administrator's login, and the models of the Ollama that it is wired to."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import sys
import urllib.request
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from typing import Any

from .serving import Answer, Asked, page, run, server

NAME = "Open WebUI"
PORT = 8080


def made(environ: Mapping[str, str], port: int = PORT, host: str = "") -> ThreadingHTTPServer:
    """The server. `environ` has Open WebUI's variables."""
    version = f"{environ['VERSION']}-standin"
    email, password = environ.get("WEBUI_ADMIN_EMAIL", ""), environ.get("WEBUI_ADMIN_PASSWORD", "")
    tokens: set[str] = set()
    user = {"id": "admin", "email": email, "name": "Admin", "role": "admin", "profile_image_url": ""}

    def sign_in(asked: Asked) -> Answer:
        given = str(asked.body.get("password") or "")
        if not password or asked.body.get("email") != email or not hmac.compare_digest(given.encode(), password.encode()):
            return Answer({"detail": "The email or password provided is incorrect."}, 400)
        token = secrets.token_urlsafe(32)
        tokens.add(token)
        return Answer({"token": token, "token_type": "Bearer", **user})

    def models(asked: Asked) -> Answer:
        if asked.token not in tokens:
            return Answer({"detail": "Not authenticated"}, 401)
        try:
            found = _ollama(environ, "/api/tags")["models"]
        except (OSError, ValueError) as error:
            return Answer({"detail": f"Ollama does not answer: {error}"}, 502)
        return Answer({"data": [{"id": one["model"], "name": one["name"], "owned_by": "ollama"} for one in found]})

    routes = {
        ("GET", "/"): lambda _: Answer(page(NAME)),
        ("GET", "/health"): lambda _: Answer({"status": True}),
        ("GET", "/api/version"): lambda _: Answer({"version": version}),
        ("GET", "/api/config"): lambda _: Answer(
            {"status": True, "name": "Open WebUI (stand-in)", "version": version, "features": {"auth": True, "enable_signup": False}}
        ),
        ("POST", "/api/v1/auths/signin"): sign_in,
        ("POST", "/api/v1/auths/signup"): lambda _: Answer({"detail": "You do not have permission."}, 403),
        ("GET", "/api/v1/auths/"): lambda asked: Answer(user) if asked.token in tokens else Answer({"detail": "401 Unauthorized"}, 401),
        ("GET", "/api/models"): models,
    }
    return server(NAME, routes, port, host)


def _ollama(environ: Mapping[str, str], path: str) -> Any:
    base = environ.get("OLLAMA_BASE_URL", "http://localhost:11434").rstrip("/")
    with urllib.request.urlopen(base + path, timeout=10) as answer:  # noqa: S310  (the lab's own setting)
        return json.loads(answer.read())


if __name__ == "__main__":
    sys.exit(run(made(os.environ, int(os.environ.get("PORT") or PORT))))
