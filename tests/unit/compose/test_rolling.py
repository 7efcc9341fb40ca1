"""Service by service, and back: on an engine that is a dictionary."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from labctl.adapters.compose import EngineUnreachable, Interrupted, NotConverged, ReleaseFailed, rolling
from labctl.adapters.compose.content import marked
from labctl.adapters.compose.parse import Container
from labctl.model.compose import ComposeDifference, ComposeProject, ComposeService, ComposeState
from labctl.model.errors import LabError
from labctl.model.rolling import Ties

DIGESTS = {"img:1": "sha256:" + "1" * 64, "img:2": ""}


class Engine:
    """What is there, what was done, and which service fails with which image."""

    def __init__(self) -> None:
        self.there: dict[str, ComposeService] = {}
        self.done: list[str] = []
        self.faults: dict[tuple[str, str], LabError] = {}
        self.wholes: dict[str, LabError] = {}


def service(image: str) -> ComposeService:
    return ComposeService(image, f"sha256:id-of-{image}", DIGESTS[image], "running", "healthy", f"hash of {image}")


def ill(name: str) -> NotConverged:
    problem = ComposeDifference(name, "health", "healthy", "unhealthy")
    return NotConverged("lab", [problem], "out of luck")


class Deployment:
    """As the real one; a service's port is its `ports`."""

    engine: Engine

    def __init__(self, _shell: Any, project: ComposeProject, *, progress: Any, stop: Any) -> None:
        self.project, self.text = project, marked(project)
        services = json.loads(project.text)["services"]
        self.wanted = ComposeState({name: service(one["image"]) for name, one in services.items()})
        self.ties = {name: Ties(ports=frozenset(one.get("ports", ()))) for name, one in services.items()}

    def found(self) -> tuple[ComposeState, tuple[Container, ...]]:
        return ComposeState(dict(self.engine.there)), ()

    def said_of(self, name: str) -> str:
        return f"{name} did not become healthy"

    def replace(self, name: str, *, strict: bool) -> None:
        wanted = self.wanted.services[name]
        self.engine.done.append(f"{name} {wanted.image}{' strict' if strict else ''}")
        fault = self.engine.faults.get((name, wanted.image))
        self.engine.there[name] = replace(wanted, health="unhealthy") if fault else wanted
        if fault:
            raise fault

    def converge(self) -> ComposeState:
        images = {one.image for one in self.wanted.services.values()}
        self.engine.done.append(f"all {' '.join(sorted(images))}")
        for image in images & self.engine.wholes.keys():
            raise self.engine.wholes[image]
        self.engine.there = dict(self.wanted.services)
        return self.wanted


def project(*services: str, image: str = "img:1", **more: Any) -> ComposeProject:
    return ComposeProject("lab", json.dumps({"services": {name: {"image": image, **more} for name in services}}))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    made.there = {name: service("img:1") for name in ("web", "web-2")}
    monkeypatch.setattr(Deployment, "engine", made, raising=False)
    monkeypatch.setattr(rolling, "Deployment", Deployment)
    return made


def roll(release: ComposeProject, last: ComposeProject | None) -> ComposeState:
    return rolling.roll(None, release, last, progress=lambda _text: None, stop=threading.Event())  # type: ignore[arg-type]


OLD, NEW = project("web", "web-2"), project("web", "web-2", image="img:2")


def test_one_after_the_other_and_then_all_of_it(engine: Engine) -> None:
    assert roll(NEW, OLD).services["web-2"].image == "img:2"
    assert engine.done == ["web img:2 strict", "web-2 img:2 strict", "all img:2"]


def test_what_is_as_wanted_is_left_alone(engine: Engine) -> None:
    engine.there["web"] = service("img:2")
    roll(NEW, OLD)
    assert engine.done == ["web-2 img:2 strict", "all img:2"]


@pytest.mark.parametrize(
    ("fails", "done"),
    [
        ("web", ["web img:2 strict", "web img:1", "all img:1"]),
        ("web-2", ["web img:2 strict", "web-2 img:2 strict", "web-2 img:1", "web img:1", "all img:1"]),
    ],
)
def test_what_was_replaced_is_put_back_the_failed_one_first(engine: Engine, fails: str, done: list[str]) -> None:
    engine.faults[fails, "img:2"] = ill(fails)
    with pytest.raises(ReleaseFailed) as caught:
        roll(NEW, OLD)
    assert engine.done == done
    assert caught.value.back
    assert caught.value.message == f"{fails} did not become healthy; lab is back on img:1@{DIGESTS['img:1']}"
    assert f"Why: {fails}: health is unhealthy, wanted healthy\n" in caught.value.hint
    assert "  out of luck" in caught.value.hint
    assert ("Not replaced: web-2." in caught.value.hint) is (fails == "web")
    assert "The next apply tries the release again" in caught.value.hint


def test_one_that_fails_when_all_are_replaced_is_put_back_too(engine: Engine) -> None:
    engine.wholes["img:2"] = ill("web")
    with pytest.raises(ReleaseFailed, match="web did not become healthy; lab is back on") as caught:
        roll(NEW, OLD)
    assert caught.value.back
    assert engine.done[2:] == ["all img:2", "web img:1", "web-2 img:1", "all img:1"]


def test_what_an_interrupted_release_replaced_is_put_back_too(engine: Engine) -> None:
    engine.there["web"] = service("img:2")
    engine.faults["web-2", "img:2"] = ill("web-2")
    with pytest.raises(ReleaseFailed):
        roll(NEW, OLD)
    assert engine.done == ["web-2 img:2 strict", "web-2 img:1", "web img:1", "all img:1"]


def test_a_replica_that_is_new_just_goes(engine: Engine) -> None:
    engine.there = {"web": service("img:1")}
    engine.faults["web-2", "img:1"] = ill("web-2")
    with pytest.raises(ReleaseFailed, match="web-2 did not become healthy; lab is back on img:1@"):
        roll(OLD, project("web"))
    assert engine.done == ["web-2 img:1 strict", "all img:1"]


def test_ports_that_are_not_free_yet_go_before_the_files_order(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = {"web": {"image": "img:2", "ports": ["8001/tcp"]}, "web-2": {"image": "img:2", "ports": ["8002/tcp"]}}
    monkeypatch.setattr(rolling, "held_ports", lambda _containers: {"web": {"8000/tcp"}, "web-2": {"8001/tcp"}})
    roll(ComposeProject("lab", json.dumps({"services": moved})), OLD)
    assert engine.done == ["web-2 img:2 strict", "web img:2 strict", "all img:2"]


@pytest.mark.parametrize("last", [None, NEW], ids=["unknown", "the same"])
def test_with_nothing_to_go_back_to_the_rest_is_left_as_it_is(engine: Engine, last: ComposeProject | None) -> None:
    engine.faults["web", "img:2"] = ill("web")
    with pytest.raises(NotConverged) as caught:
        roll(NEW, last)
    assert engine.done == ["web img:2 strict"]
    assert caught.value.hint.endswith("Not replaced: web-2.")


def test_where_no_service_changes_nothing_is_put_back(engine: Engine) -> None:
    engine.wholes["img:1"] = NotConverged("lab", [ComposeDifference("", "networks", "net", "")])
    with pytest.raises(NotConverged):
        roll(OLD, project("web"))
    assert engine.done == ["all img:1"]


@pytest.mark.parametrize(
    "second",
    [
        ill("web"),
        Interrupted("was interrupted"),
        EngineUnreachable("does not answer", hint="Is guest docker up?"),
    ],
    ids=["ill", "interrupted", "engine gone"],
)
def test_where_that_fails_it_is_said_what_is_there(engine: Engine, second: LabError) -> None:
    engine.faults = {("web-2", "img:2"): ill("web-2"), ("web-2", "img:1"): second}
    with pytest.raises(ReleaseFailed) as caught:
        roll(NEW, OLD)
    assert not caught.value.back
    # What serves goes on serving.
    assert engine.done == ["web img:2 strict", "web-2 img:2 strict", "web-2 img:1"]
    assert caught.value.message.startswith("web-2 did not become healthy, and lab could not be put back on img:1@sha256:111")
    assert caught.value.message.endswith(second.message)
    assert (
        f"Now there: web running, healthy on img:2 (sha256:id-of-img:2); web-2 running, unhealthy on img:1@{DIGESTS['img:1']}."
        in (caught.value.hint)
    )
    assert "labctl logs lab" in caught.value.hint
    assert second.hint in caught.value.hint


@pytest.mark.parametrize("fault", [Interrupted("was interrupted"), EngineUnreachable("away")])
def test_what_says_nothing_about_the_release_puts_nothing_back(engine: Engine, fault: LabError) -> None:
    engine.faults["web", "img:2"] = fault
    with pytest.raises(type(fault)):
        roll(NEW, OLD)
    assert engine.done == ["web img:2 strict"]


def test_images_that_differ_are_each_named(engine: Engine) -> None:
    text = json.dumps({"services": {"web": {"image": "img:1"}, "db": {"image": "img:2"}}})
    engine.faults["web", "img:2"] = ill("web")
    with pytest.raises(ReleaseFailed, match=r"lab is back on img:1@sha256:1+ \(web\), img:2 \(sha256:id-of-img:2\) \(db\)"):
        roll(NEW, ComposeProject("lab", text))
