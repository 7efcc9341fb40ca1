"""The framework with what it lacks: types, plans of creates, and how calls end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import tf.utils
from tf.gen import tfplugin_pb2 as pb

from labctl.provider import framework
from labctl.provider.framework import STOP, Attribute, List, Map, Number, Object, Resource, Schema, String, Unknown

SERVICE = Object(image=String(), count=Number(), networks=List(String()))


class Thing(Resource):  # type: ignore[misc]
    """Its plan refuses every name."""

    def __init__(self, _provider: object) -> None: ...

    @classmethod
    def get_name(cls) -> str:
        return "thing"

    @classmethod
    def get_schema(cls) -> Any:
        attributes = [Attribute("name", String(), required=True), Attribute("id", String(), computed=True)]
        return Schema(version=1, attributes=[*attributes, Attribute("parts", Map(SERVICE), computed=True)])

    def plan(self, context: Any, current: object, planned: dict[str, Any]) -> dict[str, Any]:
        assert current is None
        context.diagnostics.add_error("bad", "Take another.", path=["name"])
        return planned

    create = read = update = delete = None


class App:
    """As much of a provider as a servicer asks for."""

    configured: Any = None

    def get_model_prefix(self) -> str:
        return "labctl_"

    def get_resources(self) -> list[type]:
        return [Thing]

    def new_resource(self, kind: Any) -> Any:
        return kind(self)

    def configure_provider(self, _diagnostics: object, config: Any) -> None:
        self.configured = config


@pytest.fixture(autouse=True)
def _mended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tf.utils, "_msgpack_ext_hook", lambda _code, _data: Unknown)
    yield
    STOP.clear()


@pytest.mark.parametrize(
    "value",
    [
        None,
        Unknown,
        {"image": "web:1", "count": 2, "networks": ["a", "b"]},
        {"image": Unknown, "count": None, "networks": Unknown},
    ],
)
def test_objects_come_back_from_the_wire_as_they_went(value: Any) -> None:
    sent = tf.utils.to_dynamic_value({"web": SERVICE.encode(value)})
    assert SERVICE.decode(tf.utils.read_dynamic_value(sent)["web"]) == value


def test_an_object_has_all_its_attributes_on_the_wire_and_none_else() -> None:
    assert SERVICE.encode({"image": "web:1", "other": 1}) == {"image": "web:1", "count": None, "networks": None}


def test_the_type_of_an_object() -> None:
    expected = ["map", ["object", {"image": "string", "count": "number", "networks": ["list", "string"]}]]
    assert json.loads(Map(SERVICE).tf_type()) == expected


def test_what_a_resource_says_to_the_plan_of_a_create_reaches_terraform() -> None:
    request = pb.PlanResourceChange.Request(
        type_name="labctl_thing",
        prior_state=pb.DynamicValue(msgpack=b"\xc0"),
        proposed_new_state=tf.utils.to_dynamic_value({"name": "bad", "id": None, "parts": None}),
    )
    [found] = framework._Servicer(App()).PlanResourceChange(request, None).diagnostics
    assert (found.severity, found.summary, found.detail) == (pb.Diagnostic.ERROR, "bad", "Take another.")
    assert [step.attribute_name for step in found.attribute.steps] == ["name"]


def test_a_plan_is_work_and_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a labctl that was killed, Terraform plans the next change before it makes it, which may take longer than the rest."""
    planning, go = threading.Event(), threading.Event()

    def plan(_thing: object, _context: object, _current: object, planned: dict[str, Any]) -> dict[str, Any]:
        planning.set()
        assert go.wait(10)
        return planned

    monkeypatch.setattr(Thing, "plan", plan)
    request = pb.PlanResourceChange.Request(
        type_name="labctl_thing",
        prior_state=pb.DynamicValue(msgpack=b"\xc0"),
        proposed_new_state=tf.utils.to_dynamic_value({"name": "good", "id": None, "parts": None}),
    )
    call = threading.Thread(target=framework._Servicer(App()).PlanResourceChange, args=(request, None))
    rest = threading.Thread(target=framework._CALLS.wait_for_rest, args=(0.0,))
    call.start()
    assert planning.wait(10)
    rest.start()
    framework._CHANGES.wait_for_rest(0.0)
    rest.join(0.3)
    assert rest.is_alive()
    go.set()
    rest.join(10)
    assert not rest.is_alive()
    call.join(10)


def test_stop_tells_the_calls_in_flight_and_the_next_run_begins_without_it() -> None:
    app = App()
    servicer = framework._Servicer(app)
    servicer.StopProvider(pb.StopProvider.Request(), None)
    assert STOP.is_set()
    config = tf.utils.to_dynamic_value({"docker_host": "unix:///here"})
    servicer.ConfigureProvider(pb.ConfigureProvider.Request(config=config), None)
    assert not STOP.is_set()
    assert app.configured == {"docker_host": "unix:///here"}


@pytest.mark.parametrize(
    ("method", "ended"), [("/tfplugin6.Provider/StopProvider", []), ("/plugin.GRPCController/Shutdown", [0])]
)
def test_the_server_ends_on_shutdown_and_not_on_stop(method: str, ended: list[int]) -> None:
    interceptor, seen = framework._Interceptor(), list[int]()
    interceptor.server = SimpleNamespace(stop=lambda *, grace: seen.append(grace))
    assert interceptor.intercept_service(lambda details: details.method, SimpleNamespace(method=method)) == method
    assert seen == ended


def test_changed_looks_at_the_named_attributes_only() -> None:
    assert framework.changed(None, {"a": 1}, "a")
    assert framework.changed({"a": 1}, {"a": 2}, "b", "a")
    assert not framework.changed({"a": 1, "b": 1}, {"a": 1, "b": 2}, "a")
