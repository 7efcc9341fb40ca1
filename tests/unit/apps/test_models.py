"""Models follow their aliases, whatever the registry does meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

import pytest

from mlserver.config import Choice
from mlserver.models import Models, Predictor, Status, Unreachable

HOUSES = Choice(name="houses", alias="production")
CANARY = Choice(name="houses", alias="canary")


@dataclass
class Constant:
    version: str

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        return [self.version for _ in rows]


@dataclass
class FakeRegistry:
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    broken: dict[str, Exception] = field(default_factory=dict)
    away: bool = False
    bug: bool = False
    loads: list[str] = field(default_factory=list)

    def version(self, name: str, alias: str) -> str | None:
        if self.away:
            raise Unreachable("MLflow does not answer")
        if self.bug:
            raise RuntimeError("a bug in the client")
        return self.aliases.get((name, alias))

    def load(self, name: str, version: str) -> Predictor:
        self.loads.append(f"{name}/{version}")
        if version in self.broken:
            raise self.broken[version]
        return Constant(version)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry({("houses", "production"): "1", ("houses", "canary"): "2"})


@pytest.fixture
def models(registry: FakeRegistry) -> Models:
    return Models((HOUSES, CANARY), registry, poll_s=30)


def served(models: Models) -> dict[str, str]:
    return {serving.choice.alias: serving.version for serving in models.serving()}


def test_each_alias_is_loaded_once(models: Models, registry: FakeRegistry) -> None:
    assert [status.state for status in models.statuses()] == ["starting", "starting"]
    models.refresh()
    models.refresh()
    assert served(models) == {"production": "1", "canary": "2"}
    assert models.statuses() == (Status(HOUSES, "ready", "1"), Status(CANARY, "ready", "2"))
    assert registry.loads == ["houses/1", "houses/2"]


def test_an_alias_that_moves_is_followed(models: Models, registry: FakeRegistry) -> None:
    models.refresh()
    registry.aliases["houses", "production"] = "3"
    models.refresh()
    assert served(models) == {"production": "3", "canary": "2"}
    assert models.serving()[0].predictor.predict([1]) == ["3"]


def test_a_version_that_cannot_be_loaded_leaves_the_last_one_in_place(models: Models, registry: FakeRegistry) -> None:
    models.refresh()
    registry.aliases["houses", "production"] = "3"
    registry.broken["3"] = ModuleNotFoundError("No module named 'torch'\nmore")
    models.refresh()
    assert served(models)["production"] == "1"
    detail = "version 3 cannot be loaded: ModuleNotFoundError: No module named 'torch'"
    assert models.statuses()[0] == Status(HOUSES, "failed", "1", detail)
    assert models.statuses()[0].holds
    del registry.broken["3"]
    models.refresh()
    assert models.statuses()[0] == Status(HOUSES, "ready", "3")


def test_a_first_version_that_cannot_be_loaded_holds_nothing(models: Models, registry: FakeRegistry) -> None:
    registry.broken["1"] = ValueError("")
    models.refresh()
    assert models.statuses()[0] == Status(HOUSES, "failed", "", "version 1 cannot be loaded: ValueError")
    assert not models.statuses()[0].holds
    assert served(models) == {"canary": "2"}


def test_a_registry_that_is_away_takes_no_model_away(models: Models, registry: FakeRegistry) -> None:
    registry.away = True
    models.refresh()
    assert models.statuses()[0] == Status(HOUSES, "starting", "", "MLflow does not answer")
    assert not models.statuses()[0].holds
    registry.away = False
    models.refresh()
    registry.away = True
    models.refresh()
    assert served(models) == {"production": "1", "canary": "2"}
    assert models.statuses()[0] == Status(HOUSES, "ready", "1", "MLflow does not answer")


def test_an_alias_that_is_taken_away_stops_serving(models: Models, registry: FakeRegistry) -> None:
    models.refresh()
    del registry.aliases["houses", "canary"]
    models.refresh()
    assert served(models) == {"production": "1"}
    absent = models.statuses()[1]
    assert (absent.state, absent.version, absent.holds) == ("absent", "", True)


def test_whatever_the_client_raises_the_models_go_on_serving(models: Models, registry: FakeRegistry) -> None:
    models.refresh()
    registry.bug = True
    models.refresh()
    detail = "its alias cannot be read: RuntimeError: a bug in the client"
    assert models.statuses()[0] == Status(HOUSES, "failed", "1", detail)
    assert served(models) == {"production": "1", "canary": "2"}


def test_aliases_are_followed_by_themselves_until_it_ends(registry: FakeRegistry) -> None:
    models = Models((HOUSES,), registry, poll_s=0.01)
    models.start()
    until(lambda: served(models) == {"production": "1"})
    registry.aliases["houses", "production"] = "2"
    until(lambda: served(models) == {"production": "2"})
    models.stop()


def until(done: Callable[[], bool]) -> None:
    end = monotonic() + 5
    while not done():
        assert monotonic() < end
        sleep(0.005)
