"""What Terraform is answered about a Compose project, over the protocol's own messages and with an engine that is none."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from msgpack.ext import ExtType
from tf.gen import tfplugin_pb2 as pb

from labctl.adapters.compose import ComposeInvalid, EngineUnreachable, NotConverged, ReleaseFailed
from labctl.model.compose import ComposeDifference, ComposeProject, ComposeService, ComposeState, RegistryLogin
from labctl.model.errors import AdapterError, LabError, UserError
from labctl.model.secret import Secret
from labctl.provider import compose_project, framework
from labctl.provider.access import BadReference
from labctl.provider.provider import LabctlProvider

SERVICE = ComposeService("img:1", "sha256:1", "", "running", "none", "c1", networks=("p_default",))
UP = ComposeState({"web": SERVICE}, ("p_default",))
AWAY = EngineUnreachable("does not answer", where="ssh://ops@guest", hint="Is guest docker up?")
UNKNOWN, REFINED = ExtType(0, b"\x00"), ExtType(12, msgpack.packb({1: False}))
TYPE = "labctl_compose_project"


class Engine:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.there: dict[str, ComposeState] = {}
        self.fault: LabError | None = None
        self.wants = UP
        self.asked: list[tuple[Any, ...]] = []

    def wanted(self, project: ComposeProject) -> ComposeState:
        return self._answer("wanted", project) or self.wants

    def found(self, name: str) -> ComposeState:
        return self._answer("found", name) or self.there.get(name, ComposeState({}))

    def projects(self) -> dict[str, ComposeState]:
        return self._answer("projects") or self.there

    def content_hash(self, project: ComposeProject) -> str:
        return "+".join(value.reveal()[::-1] for value in project.secrets.values())

    def apply(self, project: ComposeProject, *, stop: threading.Event) -> ComposeState:
        self._answer("apply", project)
        self.there[project.name] = self.wants
        return self.wants

    def roll(self, project: ComposeProject, last: ComposeProject | None, *, stop: threading.Event) -> ComposeState:
        self._answer("roll", project, last)
        self.there[project.name] = self.wants
        return self.wants

    def destroy(self, name: str, *, volumes: bool = False) -> None:
        self._answer("destroy", name, volumes)

    def _answer(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.fault:
            raise self.fault


class Terraform:
    """The client's side of the protocol."""

    def __init__(self, provider: LabctlProvider) -> None:
        self.servicer = framework._Servicer(provider)
        self.said: list[tuple[str, str, str]] = []

    def plan(self, prior: dict[str, Any] | None, **settings: Any) -> dict[str, Any]:
        attributes = ("name", "compose", "secrets", "wait_timeout", "remove_volumes", "redeploy", "rolling", "registry_auth")
        computed = ("id", "content_hash", "services", "networks")
        proposed = dict.fromkeys(attributes) | {"name": "p", "compose": "services: {}"} | settings
        proposed |= {name: (prior or {}).get(name) for name in computed}
        request = pb.PlanResourceChange.Request(type_name=TYPE, prior_state=packed(prior), proposed_new_state=packed(proposed))
        return self._told(self.servicer.PlanResourceChange(request, None), "planned_state")

    def apply(self, prior: dict[str, Any] | None, planned: dict[str, Any] | None) -> dict[str, Any] | None:
        request = pb.ApplyResourceChange.Request(type_name=TYPE, prior_state=packed(prior), planned_state=packed(planned))
        return self._told(self.servicer.ApplyResourceChange(request, None), "new_state")

    def read(self, state: dict[str, Any]) -> dict[str, Any] | None:
        request = pb.ReadResource.Request(type_name=TYPE, current_state=packed(state))
        return self._told(self.servicer.ReadResource(request, None), "new_state")

    def import_(self, name: str) -> list[dict[str, Any]]:
        answer = self.servicer.ImportResourceState(pb.ImportResourceState.Request(type_name=TYPE, id=name), None)
        self._hear(answer)
        return [unpacked(one.state) for one in answer.imported_resources]

    def _told(self, answer: Any, field: str) -> Any:
        self._hear(answer)
        return unpacked(getattr(answer, field))

    def _hear(self, answer: Any) -> None:
        kinds = {pb.Diagnostic.ERROR: "error", pb.Diagnostic.WARNING: "warning"}
        self.said = [
            (
                kinds[one.severity],
                one.attribute.steps[0].attribute_name if one.attribute.steps else "",
                f"{one.summary}\n{one.detail}",
            )
            for one in answer.diagnostics
        ]


def packed(value: Any) -> pb.DynamicValue:
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def unpacked(value: pb.DynamicValue) -> Any:
    return msgpack.unpackb(value.msgpack) if value.msgpack else None


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def terraform(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Terraform:
    monkeypatch.setattr(framework.tf.utils, "_msgpack_ext_hook", lambda _code, _data: framework.Unknown)
    provider = LabctlProvider()
    monkeypatch.setattr(provider, "engine", lambda: engine)
    monkeypatch.setattr(
        compose_project, "read_secrets", lambda found: ({name: Secret(f"of {found[name]}") for name in found}, None)
    )
    return Terraform(provider)


def test_a_create_is_planned_with_what_compose_would_make(terraform: Terraform) -> None:
    planned = terraform.plan(None, secrets={"A": "x#y"})
    assert terraform.said == []
    assert planned["id"] == "p"
    assert planned["content_hash"] == "y#x fo"
    assert planned["services"]["web"]["image_id"] == "sha256:1"
    assert planned["networks"] == ["p_default"]


def test_what_was_planned_is_what_is_stored(terraform: Terraform, engine: Engine) -> None:
    planned = terraform.plan(None)
    state = terraform.apply(None, planned)
    assert state == planned
    assert terraform.plan(state) == state
    assert terraform.read(state) == state
    engine.there["p"] = ComposeState({"web": replace(SERVICE, state="exited", count=2)}, ())
    drifted = terraform.read(state)
    assert drifted is not None
    assert (drifted["services"]["web"]["state"], drifted["services"]["web"]["count"], drifted["networks"]) == ("exited", 2, [])
    assert terraform.plan(drifted) == state


def test_registries_are_logged_in_to_when_it_is_applied_and_not_before(
    terraform: Terraform, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = RegistryLogin("r:1", Secret("labctl"), Secret("word"))
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(compose_project, "registry_logins", lambda paths: asked.append(paths) or ((login,) if paths else ()))
    planned = terraform.plan(None, registry_auth={"r:1": "gitlab/registry"})
    assert asked == []
    state = terraform.apply(None, planned)
    terraform.apply(state, terraform.plan(state, registry_auth={"r:1": "gitlab/registry"}, redeploy="2", rolling=True))
    assert asked == [{"r:1": "gitlab/registry"}] * 2
    given = [project for name, *projects in engine.asked if name in ("apply", "roll") for project in projects]
    assert [project.logins for project in given] == [(login,)] * 3


@pytest.mark.parametrize("unknown", [UNKNOWN, REFINED], ids=["unknown", "refined"])
@pytest.mark.parametrize("setting", ["name", "compose", "secrets", "redeploy", "rolling", "one secret"])
def test_with_an_input_unknown_all_is_and_nothing_is_asked(
    terraform: Terraform, engine: Engine, unknown: Any, setting: str
) -> None:
    given = {"secrets": {"A": unknown}} if setting == "one secret" else {setting: unknown}
    planned = terraform.plan(None, **given)
    assert (planned["services"], planned["networks"], planned["content_hash"]) == (UNKNOWN, UNKNOWN, UNKNOWN)
    assert planned["id"] == (UNKNOWN if setting == "name" else "p")
    assert engine.asked == []


def test_of_an_image_that_is_still_to_be_fetched_the_id_is_unknown(terraform: Terraform, engine: Engine) -> None:
    engine.wants = ComposeState({"web": replace(SERVICE, image_id="")}, ("p_default",))
    service = terraform.plan(None)["services"]["web"]
    assert (service["image_id"], service["digest"], service["config_hash"]) == (UNKNOWN, UNKNOWN, "c1")
    engine.wants = ComposeState({"web": replace(SERVICE, image_id="", health="none")}, ("p_default",))
    assert terraform.plan(None)["services"]["web"]["health"] == UNKNOWN


def test_an_engine_out_of_reach_leaves_a_create_unknown_and_stops_everything_else(terraform: Terraform, engine: Engine) -> None:
    state = terraform.apply(None, terraform.plan(None))
    assert state is not None
    engine.fault = AWAY
    assert terraform.plan(None)["services"] == UNKNOWN
    assert [one[0] for one in terraform.said] == ["warning"]
    for call in (lambda: terraform.plan(state), lambda: terraform.read(state), lambda: terraform.apply(state, None)):
        call()
        assert [one[0] for one in terraform.said] == ["error"]
        assert "Is guest docker up?" in terraform.said[0][2]


def test_a_file_that_compose_refuses_is_an_error_at_its_attribute(terraform: Terraform, engine: Engine) -> None:
    engine.fault = ComposeInvalid("its Compose file is not YAML: x, line 3")
    terraform.plan(None)
    assert [one[:2] for one in terraform.said] == [("error", "compose")]
    assert "line 3" in terraform.said[0][2]


def test_a_create_that_failed_leaves_no_state_and_an_update_the_one_before(terraform: Terraform, engine: Engine) -> None:
    planned = terraform.plan(None)
    problem = ComposeDifference("web", "state", "running", "restarting")
    engine.fault = NotConverged("p", (problem,), "no disk today")
    assert terraform.apply(None, planned) is None
    kind, attribute, text = terraform.said[0]
    assert (kind, attribute) == ("error", "compose")
    assert "web: state is restarting, wanted running" in text
    assert "no disk today" in text
    engine.fault = None
    state = terraform.apply(None, planned)
    changed = terraform.plan(state, redeploy="2")
    engine.fault = NotConverged("p", (problem,), "")
    assert terraform.apply(state, changed) == state


def test_a_rolling_update_knows_the_last_good_file_and_a_create_has_none(terraform: Terraform, engine: Engine) -> None:
    first = {"compose": "services: {one: 1}", "secrets": {"A": "x#old"}, "redeploy": "1", "rolling": True}
    state = terraform.apply(None, terraform.plan(None, **first))
    assert [one[0] for one in engine.asked if one[0] in ("apply", "roll")] == ["apply"]
    second = {"compose": "services: {two: 2}", "secrets": {"A": "x#new"}, "redeploy": "2", "rolling": True}
    planned = terraform.plan(state, **second)
    assert terraform.apply(state, planned) == planned
    _, project, last = engine.asked[-1]
    assert (project.text, project.redeploy, project.secrets["A"].reveal()) == ("services: {two: 2}", "2", "of x#new")
    assert (last.text, last.redeploy, last.secrets["A"].reveal()) == ("services: {one: 1}", "1", "of x#old")
    for more in ({"rolling": False}, {"rolling": None}):
        terraform.apply(state, terraform.plan(state, **(second | more)))
        assert engine.asked[-1][0] == "apply"


@pytest.mark.parametrize("why", ["imported", "its secret is gone"])
def test_where_the_last_good_file_is_not_known_an_update_rolls_all_the_same(
    terraform: Terraform, engine: Engine, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def read(found: dict[str, str]) -> tuple[dict[str, Secret], None]:
        if "gone#x" in found.values():
            raise UserError("there is no secret 'gone'")
        return {}, None

    monkeypatch.setattr(compose_project, "read_secrets", read)
    state = terraform.apply(None, terraform.plan(None, rolling=True))
    assert state is not None
    state |= {"compose": None} if why == "imported" else {"secrets": {"A": "gone#x"}}
    planned = terraform.plan(state, rolling=True)
    assert terraform.apply(state, planned) == planned
    assert (engine.asked[-1][0], engine.asked[-1][2]) == ("roll", None)


def test_a_release_that_failed_leaves_the_state_as_it_was_and_says_what_is_there(terraform: Terraform, engine: Engine) -> None:
    state = terraform.apply(None, terraform.plan(None, rolling=True))
    planned = terraform.plan(state, compose="services: {two: 2}", rolling=True)
    message = "web did not become healthy; p is back on img@sha256:1"
    engine.fault = ReleaseFailed(message, hint="Why: x", where="project p", back=True)
    assert terraform.apply(state, planned) == state
    assert terraform.said == [("error", "compose", f"{message}\nWhy: x")]
    engine.fault = None
    assert terraform.plan(state, compose="services: {two: 2}", rolling=True)["compose"] == "services: {two: 2}"


def test_a_secret_that_cannot_be_read_is_an_error_at_its_attribute(
    terraform: Terraform, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_references: object) -> None:
        raise UserError("the Vault is sealed", hint="Run `labctl vault unseal`.")

    state = terraform.apply(None, terraform.plan(None))
    monkeypatch.setattr(compose_project, "read_secrets", refuse)
    terraform.plan(state)
    assert [one[:2] for one in terraform.said] == [("error", "secrets")]
    terraform.apply(None, terraform.plan(None))
    assert [one[:2] for one in terraform.said] == [("error", "secrets")]
    # Neither a refresh nor a destroy needs it.
    terraform.read(state or {})
    assert terraform.said == []


@pytest.mark.parametrize(
    ("error", "of_create"),
    [
        (BadReference("there is no secret 'x'", variable="A", hint="Known: y."), "error"),
        (AdapterError("there is no secret 'services/mlflow'", hint="`labctl up --layer foundation` generates it."), "warning"),
        (UserError("permission denied for lab/data/x"), "warning"),
        (UserError("the Vault is sealed"), "warning"),
        (AdapterError("connection refused"), "warning"),
        (UserError("VAULT_ADDR is not set"), "warning"),
    ],
    ids=["no such secret", "to be generated", "denied", "sealed", "unreachable", "no Vault"],
)
def test_a_create_waits_for_a_secret_that_may_come_and_for_no_other(
    terraform: Terraform, monkeypatch: pytest.MonkeyPatch, error: LabError, of_create: str
) -> None:
    state = terraform.apply(None, terraform.plan(None))

    def refuse(_references: object) -> None:
        raise error

    monkeypatch.setattr(compose_project, "read_secrets", refuse)
    planned = terraform.plan(None, secrets={"A": "x#y"})
    assert [one[0] for one in terraform.said] == [of_create]
    assert error.message in terraform.said[0][2]
    assert error.hint in terraform.said[0][2]
    assert planned["services"] == UNKNOWN
    terraform.plan(state, secrets={"A": "x#y"})
    assert [one[:2] for one in terraform.said] == [("error", "secrets")]


@pytest.mark.parametrize("volumes", [None, False, True])
def test_a_destroy_takes_the_volumes_only_where_asked(terraform: Terraform, engine: Engine, volumes: bool | None) -> None:
    state = terraform.apply(None, terraform.plan(None, remove_volumes=volumes))
    assert terraform.apply(state, None) is None
    assert engine.asked[-1] == ("destroy", "p", bool(volumes))


def test_it_is_gone_when_only_volumes_are_left(terraform: Terraform, engine: Engine) -> None:
    state = terraform.apply(None, terraform.plan(None)) or {}
    engine.there["p"] = ComposeState({}, ("p_default",), ("p_data",))
    assert (terraform.read(state) or {})["services"] == {}
    engine.there["p"] = ComposeState({}, (), ("p_data",))
    assert terraform.read(state) is None


def test_an_import_takes_what_is_there_and_names_it_otherwise(terraform: Terraform, engine: Engine) -> None:
    engine.there["postgres"] = UP
    found = terraform.import_("postgres")[0]
    assert (found["name"], found["compose"], found["services"]["web"]["state"]) == ("postgres", None, "running")
    assert terraform.import_("postgre") == []
    assert "Did you mean 'postgres'?" in terraform.said[0][2]


@pytest.mark.parametrize(
    ("config", "attribute"),
    [({"name": "A b"}, "name"), ({"secrets": {"A": "x"}}, "secrets"), ({"secrets": {"A": "x#"}}, "secrets"), ({}, None)],
)
def test_names_and_references_are_validated(terraform: Terraform, config: dict[str, Any], attribute: str | None) -> None:
    whole = {"name": "p", "compose": "x", "secrets": None, **config}
    terraform._hear(
        terraform.servicer.ValidateResourceConfig(pb.ValidateResourceConfig.Request(type_name=TYPE, config=packed(whole)), None)
    )
    assert [one[:2] for one in terraform.said] == ([("error", attribute)] if attribute else [])


def test_a_provider_rests_only_after_its_changes() -> None:
    work = framework._Work()
    rested: list[float] = []

    def rest() -> None:
        work.wait_for_rest(0.2)
        rested.append(time.monotonic())

    with work:
        thread = threading.Thread(target=rest)
        thread.start()
        time.sleep(0.3)
        assert rested == []
        ended = time.monotonic()
    thread.join(5)
    assert rested[0] - ended >= 0.19
