"""Records requests and answers as JSON lines, without the secrets in them, for a referee that replays them elsewhere."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import IO

from labctl.model.secret import MASK

_SECRET_FIELDS = {
    "password",
    "confirmation-password",
    "cipassword",
    "content",
    "input-data",
    "out-data",
    "err-data",
    "ticket",
    "CSRFPreventionToken",
}
_AGENT = re.compile(r"/agent/")


def masked(value: object, *, secret_values: bool) -> object:
    """A copy of a JSON value with secret fields masked; `value` and `content` are secret in some answers only."""
    if isinstance(value, dict):
        return {
            key: MASK
            if isinstance(item, str) and (key in _SECRET_FIELDS - {"content"} or (secret_values and key in {"value", "content"}))
            else masked(item, secret_values=secret_values)
            for key, item in value.items()
        }
    return [masked(item, secret_values=secret_values) for item in value] if isinstance(value, list) else value


class Recorder:
    """Writes one line a request while it is on.

    Args:
        folder: Where recordings go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None
        self.path: Path | None = None

    def start(self, name: str) -> Path:
        """Begin a new recording and return its file; one that runs is ended first."""
        self.stop()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = self._folder / f"{name}.jsonl"
        self._file = self.path.open("w")
        return self.path

    def stop(self) -> Path | None:
        """End the recording and return its file."""
        if self._file:
            self._file.close()
            self._file = None
        return self.path

    def write(self, method: str, path: str, arguments: object, status: int, reason: str, answer: object) -> None:
        """Record one request, if a recording is on."""
        if self._file is None:
            return
        hide = bool(_AGENT.search(path)) or "/token/" in path
        line = {
            "at": round(time.time(), 3),
            "method": method,
            "path": path,
            "arguments": masked(arguments, secret_values=hide),
            "status": status,
            "reason": reason,
            "answer": masked(answer, secret_values=hide),
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
