"""Stands in for Ollama: keeps names of models, computes nothing. `ollama serve`, `list`, `pull`, `rm`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .serving import NOTICE, Answer, Asked, page, run, server

NAME = "Ollama"
PORT = 11434
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?")


class Models:
    """The models, by name, in a file.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def all(self) -> list[dict[str, Any]]:
        """Each as Ollama tells of it."""
        try:
            found: dict[str, str] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return []
        return [_model(name, when) for name, when in sorted(found.items())]

    def find(self, name: str) -> dict[str, Any] | None:
        """One of them."""
        return next((one for one in self.all() if one["name"] == full(name)), None)

    def change(self, *, add: str = "", remove: str = "") -> None:
        """Keeps another, or keeps one no more."""
        with self._lock:
            names = {one["name"]: one["modified_at"] for one in self.all()}
            if add:
                names.setdefault(full(add), datetime.now(UTC).isoformat())
            names.pop(full(remove), None)
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps(names))
            new.replace(self._file)


def full(name: str) -> str:
    """A model's name with its tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def made(models: Models, version: str, port: int = PORT, host: str = "") -> ThreadingHTTPServer:
    """The server."""

    def named(asked: Asked) -> str:
        return str(asked.body.get("model") or asked.body.get("name") or "")

    def pull(asked: Asked) -> Answer:
        name = named(asked)
        if not _MODEL.fullmatch(name):
            return Answer({"error": "invalid model name"}, 400)

        def steps() -> Iterator[dict[str, Any]]:
            digest = _digest(full(name))
            yield {"status": "pulling manifest"}
            for completed in (0, 512, 1024):
                yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": 1024, "completed": completed}
            models.change(add=name)
            yield {"status": f"{NOTICE} keeps the name, and nothing else"}
            yield {"status": "success"}

        if asked.body.get("stream", True):
            return Answer(steps())
        return Answer(list(steps())[-1])

    def speak(asked: Asked, key: str) -> Answer:
        name = named(asked)
        if models.find(name) is None:
            return Answer({"error": f"model {name!r} not found"}, 404)
        common = {"model": name, "created_at": datetime.now(UTC).isoformat()}
        ending = {"done": True, "done_reason": "stop", "total_duration": 1, "prompt_eval_count": 1, "eval_count": 1}
        text = f"This is {NOTICE} for Ollama: no model answers here."

        def part(words: str) -> dict[str, Any]:
            return {key: {"role": "assistant", "content": words} if key == "message" else words}

        if not asked.body.get("stream", True):
            return Answer(common | part(text) | ending)
        words = [common | part(f"{word} ") | {"done": False} for word in text.split()]
        return Answer(iter([*words, common | part("") | ending]))

    def show(asked: Asked) -> Answer:
        found = models.find(named(asked))
        if found is None:
            return Answer({"error": f"model {named(asked)!r} not found"}, 404)
        told = {"modelfile": f"# {NOTICE}", "parameters": "", "template": "", "capabilities": ["completion"], "model_info": {}}
        return Answer(told | {"details": found["details"], "modified_at": found["modified_at"]})

    def delete(asked: Asked) -> Answer:
        if models.find(named(asked)) is None:
            return Answer({"error": f"model {named(asked)!r} not found"}, 404)
        models.change(remove=named(asked))
        return Answer({})

    routes = {
        ("GET", "/"): lambda _: Answer(page(NAME)),
        ("GET", "/api/version"): lambda _: Answer({"version": f"{version}-standin"}),
        ("GET", "/api/tags"): lambda _: Answer({"models": models.all()}),
        ("GET", "/api/ps"): lambda _: Answer({"models": []}),
        ("POST", "/api/pull"): pull,
        ("POST", "/api/show"): show,
        ("POST", "/api/generate"): lambda asked: speak(asked, "response"),
        ("POST", "/api/chat"): lambda asked: speak(asked, "message"),
        ("DELETE", "/api/delete"): delete,
    }
    return server(NAME, routes, port, host)


def _model(name: str, when: str) -> dict[str, Any]:
    details = {"format": "stand-in", "family": "stand-in", "parameter_size": "0", "quantization_level": "none"}
    digest = _digest(name).removeprefix("sha256:")
    return {"name": name, "model": name, "modified_at": when, "size": 0, "digest": digest, "details": details}


def _digest(name: str) -> str:
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    port = os.environ.get("OLLAMA_HOST", "").rpartition(":")[2] or str(PORT)
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method=method)  # noqa: S310  (this machine)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return [json.loads(line) for line in answer.read().splitlines() if line.strip()]


def main(arguments: Sequence[str]) -> int:
    """The program `ollama`."""
    out = sys.stdout.write
    match list(arguments):
        case ["serve"]:
            folder = Path(os.environ.get("OLLAMA_MODELS", "/root/.ollama/models"))
            port = int(os.environ.get("OLLAMA_HOST", "").rpartition(":")[2] or PORT)
            return run(made(Models(folder / "names.json"), os.environ["VERSION"], port))
        case ["--version" | "-v"]:
            out(f"ollama version is {os.environ['VERSION']} ({NOTICE})\n")
            return 0
    try:
        match list(arguments):
            case ["list" | "ls"]:
                out("NAME\tID\tSIZE\tMODIFIED\n")
                for one in _ask("GET", "/api/tags")[0]["models"]:
                    out(f"{one['name']}\t{one['digest'][:12]}\t0 B\t{one['modified_at']}\n")
            case ["pull", name]:
                for step in _ask("POST", "/api/pull", {"model": name}):
                    out(f"{step['status']}\n")
            case ["rm", name]:
                _ask("DELETE", "/api/delete", {"model": name})
            case _:
                sys.stderr.write(f"{NOTICE} for Ollama knows: serve, list, pull NAME, rm NAME\n")
                return 1
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"Error: {error.read().decode()}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"Error: could not connect to ollama server ({error})\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
