"""What rotating a secret comes to, and what a plan may do for it."""

from __future__ import annotations

import pytest

from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.plan import Action, PlanSummary, ResourceChange, StackPlan, StackStatus
from labctl.model.rotation import Rotation, beyond_rotation, rotation

SERVICES = "{postgres: {}, kafka: {}, mlflow: {}, ollama: {}, open_webui: {}, portainer: {}}"


def lab(services: str = SERVICES) -> Lab:
    return parse_lab(f"name: lab\ntarget: {{sandbox: {{guests: container}}}}\nservices: {services}\n")


@pytest.mark.parametrize(
    ("path", "fields", "services", "guests"),
    [
        ("services/postgres", ["password"], ("postgres", "mlflow"), ()),
        ("services/mlflow", ["password"], ("mlflow",), ()),
        ("services/open_webui", ["session_key"], ("open_webui",), ()),
        ("store/mlflow", ["access_key", "secret_key"], ("mlflow",), ("docker",)),
        ("store/gitlab", ["access_key", "secret_key"], (), ("gitlab",)),
        ("store/terraform", ["access_key", "secret_key"], (), ()),
        ("labctl/content", ["key"], ("postgres", "mlflow", "open_webui", "portainer"), ()),
    ],
)
def test_who_is_given_the_new_value(path: str, fields: list[str], services: tuple[str, ...], guests: tuple[str, ...]) -> None:
    found = rotation(lab(), path)
    assert (list(found.fields), found.services, found.guests) == (fields, services, guests)


def test_one_field_alone() -> None:
    found = rotation(lab(), "store/mlflow", "secret_key")
    assert list(found.fields) == ["secret_key"]
    assert found.services == ("mlflow",)


@pytest.mark.parametrize(
    ("path", "field", "message", "hint"),
    [
        ("services/postgre", "", "no secret 'services/postgre'", "services/postgres"),
        ("services/postgres", "pasword", "no field 'pasword'", "password"),
        ("services/portainer", "", "services/portainer is not rotated", "change it in Portainer"),
        ("services/open_webui", "password", "services/open_webui#password is not rotated", "change it in Open WebUI"),
        ("gitlab/root", "", "gitlab/root is not rotated", "GitLab"),
        ("platform/ssh", "", "platform/ssh is not rotated", "new guests only"),
        ("gitlab/runner", "token", "gitlab/runner#token is not rotated", "Remove the runner"),
    ],
)
def test_what_is_refused_says_what_to_do(path: str, field: str, message: str, hint: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        rotation(lab(), path, field)
    assert hint in caught.value.hint


def test_the_registrys_login_is_rotated_in_gitlab() -> None:
    apps = "services: {kafka: {}, postgres: {}, mlflow: {}}\napps: {mlserver: {models: [{name: houses}]}}\n"
    with pytest.raises(UserError, match="gitlab/registry is not rotated") as caught:
        rotation(parse_lab(f"name: lab\ntarget: {{sandbox: {{guests: container}}}}\n{apps}"), "gitlab/registry")
    assert "Revoke deploy token `labctl` of `lab/apps` in GitLab" in caught.value.hint


def test_a_secret_of_a_service_that_is_off_is_none_of_the_lab() -> None:
    with pytest.raises(UserError, match="no secret 'services/mlflow'"):
        rotation(lab("{postgres: {}}"), "services/mlflow")


def plan(*changes: tuple[str, str, Action]) -> StackPlan:
    found = tuple(ResourceChange(f"{kind}.{name}", kind, name, action) for kind, name, action in changes)
    return StackPlan("services", "services", StackStatus.CHANGES, PlanSummary("services", found))


WHAT = Rotation("services/postgres", {}, ("postgres", "mlflow"), ())
PROJECT = "labctl_compose_project"


def test_a_plan_that_updates_its_users_is_what_was_asked_for() -> None:
    assert not list(beyond_rotation(WHAT, [plan((PROJECT, "postgres", Action.UPDATE), (PROJECT, "mlflow", Action.UPDATE))]))


@pytest.mark.parametrize(
    "change",
    [
        (PROJECT, "kafka", Action.UPDATE),
        (PROJECT, "postgres", Action.REPLACE),
        (PROJECT, "mlflow", Action.DELETE),
        ("proxmox_virtual_environment_vm", "docker", Action.UPDATE),
    ],
)
def test_whatever_else_it_does_is_named(change: tuple[str, str, Action]) -> None:
    (sentence,) = beyond_rotation(WHAT, [plan((PROJECT, "postgres", Action.UPDATE), change)])
    assert f"{change[0]}.{change[1]}" in sentence
