"""The stand-ins answer as the services do, as far as the lab asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import requests

from labctl.sandbox.images.standins import ollama, open_webui, portainer


@contextmanager
def served(made: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def test_ollama_keeps_names(tmp_path: Path) -> None:
    file = tmp_path / "models" / "names.json"
    with served(ollama.made(ollama.Models(file), "0.1", 0, "127.0.0.1")) as base:
        assert requests.get(f"{base}/api/version", timeout=5).json() == {"version": "0.1-standin"}
        assert requests.post(f"{base}/api/pull", json={"model": "bad name"}, timeout=5).status_code == 400
        assert requests.post(f"{base}/api/pull", json={"model": "a", "stream": False}, timeout=5).json() == {"status": "success"}
        assert [one["name"] for one in requests.get(f"{base}/api/tags", timeout=5).json()["models"]] == ["a:latest"]
        said = requests.post(f"{base}/api/chat", json={"model": "a", "stream": False}, timeout=5).json()
        assert "stand-in" in said["message"]["content"]
        assert requests.post(f"{base}/api/generate", json={"model": "b"}, timeout=5).status_code == 404
        assert requests.post(f"{base}/api/show", json={"model": "a"}, timeout=5).ok
        assert "stand-in" in requests.get(base, timeout=5).headers["X-Stand-In"]
        assert requests.post(f"{base}/api/pull", data="no json", timeout=5).status_code == 400
    assert [one["name"] for one in ollama.Models(file).all()] == ["a:latest"]


def test_open_webui_lets_the_administrator_in_and_asks_ollama(tmp_path: Path) -> None:
    models = ollama.Models(tmp_path / "names.json")
    models.change(add="a")
    with served(ollama.made(models, "0.1", 0, "127.0.0.1")) as behind:
        environ = {"VERSION": "1", "WEBUI_ADMIN_EMAIL": "a@b", "WEBUI_ADMIN_PASSWORD": "päss", "OLLAMA_BASE_URL": behind}
        with served(open_webui.made(environ, 0, "127.0.0.1")) as base:
            assert requests.get(f"{base}/health", timeout=5).json() == {"status": True}
            wrong = {"email": "a@b", "password": "wrong"}
            assert requests.post(f"{base}/api/v1/auths/signin", json=wrong, timeout=5).status_code == 400
            assert requests.get(f"{base}/api/models", timeout=5).status_code == 401
            right = wrong | {"password": "päss"}
            token = requests.post(f"{base}/api/v1/auths/signin", json=right, timeout=5).json()["token"]
            found = requests.get(f"{base}/api/models", headers={"Authorization": f"Bearer {token}"}, timeout=5).json()
            assert [one["id"] for one in found["data"]] == ["a:latest"]


def test_portainer_lets_the_administrator_in() -> None:
    with served(portainer.made("2", "secret", "instance", 0, "127.0.0.1")) as base:
        assert requests.get(f"{base}/api/system/status", timeout=5).json()["Version"] == "2-standin"
        assert requests.post(f"{base}/api/auth", json={"Username": "admin", "Password": "no"}, timeout=5).status_code == 422
        token = requests.post(f"{base}/api/auth", json={"Username": "admin", "Password": "secret"}, timeout=5).json()["jwt"]
        assert requests.get(f"{base}/api/endpoints", headers={"Authorization": f"Bearer {token}"}, timeout=5).ok
        assert requests.get(f"{base}/api/endpoints", timeout=5).status_code == 401
