"""The models that the server holds. They follow their aliases: one that moved is loaded beside the old one, then takes over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlserver.config import Choice

logger = logging.getLogger(__name__)

State = Literal["starting", "ready", "absent", "failed"]
"""`starting`: the registry has not answered yet. `absent`: nobody has registered it, or given a version that alias."""


class Unreachable(Exception):
    """The registry does not answer; the sentence says why."""


class Refused(Exception):
    """A model does not take these inputs; the sentence is the model's."""


class Predictor(Protocol):
    """A model that is loaded."""

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        """One prediction a row, as plain data.

        Raises:
            Refused: The rows are not what the model takes.
        """


class Registry(Protocol):
    """Where models come from."""

    def version(self, name: str, alias: str) -> str | None:
        """The version that an alias points at, None where there is no such model or alias.

        Raises:
            Unreachable: It does not answer.
        """

    def load(self, name: str, version: str) -> Predictor:
        """A version of a model, ready to predict. Raises whatever is wrong with it."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A model that serves."""

    choice: Choice
    version: str
    predictor: Predictor

    @property
    def weight(self) -> float:
        """Its share."""
        return self.choice.weight

    def __str__(self) -> str:
        return str(self.choice)


@dataclass(frozen=True, slots=True)
class Status:
    """How it stands with a model.

    Attributes:
        choice: The model.
        state: How it stands with the version that its alias points at.
        version: The version that serves; "" for none. A `failed` one may still serve as its last version.
        detail: What is wrong, "" if nothing.
    """

    choice: Choice
    state: State = "starting"
    version: str = ""
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether a deploy may be called good: it serves, or nothing is there that could."""
        return bool(self.version) or self.state == "absent"


class Models:
    """All models of the server, kept up to date by a thread.

    Args:
        choices: The models.
        registry: Where they come from.
        poll_s: How often aliases are looked at.
    """

    def __init__(self, choices: Sequence[Choice], registry: Registry, poll_s: float) -> None:
        self._registry = registry
        self._poll_s = poll_s
        self._lock = threading.Lock()
        self._serving: dict[Choice, Serving] = {}
        self._status = {choice: Status(choice) for choice in choices}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="model-aliases", daemon=True)

    def start(self) -> None:
        """Begins to follow the aliases."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it; a load that is under way is not waited for."""
        self._stop.set()

    def serving(self) -> tuple[Serving, ...]:
        """The models that can answer now."""
        with self._lock:
            return tuple(self._serving.values())

    def statuses(self) -> tuple[Status, ...]:
        """How it stands with each, in the order of the configuration."""
        with self._lock:
            return tuple(self._status.values())

    def refresh(self) -> None:
        """Looks at each alias once, and loads what has moved."""
        for choice in tuple(self._status):
            self._refresh(choice)

    def _follow(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            # A server that waits for its registry is not to wait a whole period more.
            starting = any(status.state == "starting" for status in self.statuses())
            self._stop.wait(min(self._poll_s, 2.0) if starting else self._poll_s)

    def _refresh(self, choice: Choice) -> None:
        served = self._serving.get(choice)
        has = served.version if served else ""
        version: str | None = None
        try:
            version = self._registry.version(choice.name, choice.alias)
            if version is None:
                self._keep(Status(choice, "absent", "", "no version has this alias"), None)
            elif version == has:
                self._keep(Status(choice, "ready", version), served)
            else:
                self._keep(Status(choice, "ready", version), Serving(choice, version, self._registry.load(choice.name, version)))
        except Unreachable as error:
            self._keep(Status(choice, "ready" if served else "starting", has, str(error)), served)
        except Exception as error:  # noqa: BLE001  (a model is foreign code; whatever it raises must not end the thread)
            what = "its alias cannot be read" if version is None else f"version {version} cannot be loaded"
            self._keep(Status(choice, "failed", has, f"{what}: {_first_line(error)}"), served)

    def _keep(self, status: Status, serving: Serving | None) -> None:
        with self._lock:
            before = self._status[status.choice]
            self._status[status.choice] = status
            if serving is None:
                self._serving.pop(status.choice, None)
            else:
                self._serving[status.choice] = serving
        if before != status:
            level = logging.WARNING if status.detail else logging.INFO
            logger.log(level, "%s: %s %s %s", status.choice, status.state, status.version, status.detail)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
