"""Asks an Ollama over its HTTP API for models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from labctl.model.errors import AdapterError, LabError, UserError

CONNECT_TIMEOUT_S = 10.0
SILENCE_S = 300.0
"""How long it may say nothing while it fetches: it checks a large layer without a word."""


class Ollama:
    """An Ollama.

    Args:
        url: `http://host:port`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        """Ends its connections."""
        self._session.close()

    def models(self) -> tuple[str, ...]:
        """The models that it has, with their tags.

        Raises:
            AdapterError: It cannot be reached.
        """
        with self._explained(), self._session.get(f"{self.url}/api/tags", timeout=(CONNECT_TIMEOUT_S, 30)) as answer:
            found = self._checked(answer).json()["models"]
            return tuple(sorted(str(model["name"]) for model in found))

    def pull(self, model: str, progress: Callable[[str], None] = lambda _text: None) -> None:
        """Fetches a model. What a fetch that was cut off has brought is kept, and the next one goes on there.

        Raises:
            UserError: There is no such model.
            AdapterError: It cannot be reached, or cannot fetch.
        """
        shown = ""
        done = False
        request = {"model": model, "stream": True}
        timeout = (CONNECT_TIMEOUT_S, SILENCE_S)
        with self._explained(), self._session.post(f"{self.url}/api/pull", json=request, stream=True, timeout=timeout) as answer:
            for line in self._checked(answer).iter_lines():
                if not line:
                    continue
                step = json.loads(line)
                if "error" in step:
                    raise self._refused(str(step["error"]))
                done = step.get("status") == "success"
                text = _shown(step)
                if text and text != shown:
                    progress(text)
                    shown = text
        if not done:
            raise AdapterError("stopped fetching before it was done", where=self.url, hint="Run it again: it goes on there.")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except requests.ConnectionError as error:
            raise AdapterError(
                "the connection failed", where=self.url, hint="`labctl logs ollama` says why; run it again then."
            ) from error
        except requests.Timeout as error:
            raise AdapterError("no answer in time", where=self.url, hint="`labctl logs ollama` says what it is at.") from error
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise AdapterError(f"answers something else than Ollama does: {error}", where=self.url) from error

    def _checked(self, answer: requests.Response) -> requests.Response:
        if answer.ok:
            return answer
        try:
            said = str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            said = f"{answer.status_code} {answer.reason}"
        raise self._refused(said)

    def _refused(self, said: str) -> LabError:
        low = said.lower()
        if "file does not exist" in low or "not found" in low or "invalid model" in low:
            hint = "https://ollama.com/library lists models; write one as NAME or NAME:TAG."
            return UserError(f"knows no such model: {said}", where=self.url, hint=hint)
        if "no space left" in low:
            return AdapterError(
                f"cannot fetch: {said}", where=self.url, hint="Free space on guest docker: `df -h` there shows it."
            )
        return AdapterError(f"cannot fetch: {said}", where=self.url, hint="Does guest docker reach the registry of models?")


def _shown(step: Mapping[str, Any]) -> str:
    """A step in words, with tens of per cent where it tells how far it is."""
    status, total = str(step.get("status", "")), step.get("total")
    if not isinstance(total, int) or total <= 0:
        return status
    return f"{status}: {10 * (10 * int(step.get('completed') or 0) // total)} %"
