"""GitLab's stand-in, asked by the real python-gitlab: status codes, bodies, pages, state."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gitlab
import pytest
import requests

from tests.dockerregistry import registry
from tests.gitlabstandin import ADDRESS, ROOT_TOKEN, SECRETS, Standin
from tests.waiting import until

pytestmark = pytest.mark.integration


def get(url: str, **options: Any) -> requests.Response:
    session = requests.Session()
    session.trust_env = False
    return session.get(url, timeout=10, allow_redirects=False, **options)


def test_who_asks(standin: Standin) -> None:
    client = standin.client()
    client.auth()
    assert client.user is not None
    assert (client.user.username, client.user.is_admin) == ("root", True)
    version, _revision = client.version()
    assert version == "19.3.0"
    assert client.personal_access_tokens.get("self").scopes == ["api"]


@pytest.mark.parametrize("token", ["", "glpat-wrong", SECRETS["root_password"]])
def test_whom_it_does_not_know_gets_401(standin: Standin, token: str) -> None:
    found = get(f"{standin.url}/api/v4/user", headers={"PRIVATE-TOKEN": token} if token else {})
    assert (found.status_code, found.json()) == (401, {"message": "401 Unauthorized"})


def test_a_token_that_was_revoked_or_lacks_the_scope(standin: Standin) -> None:
    client = standin.client()
    made = client.users.get(1, lazy=True).personal_access_tokens.create(
        {"name": "reader", "scopes": ["read_api"], "expires_at": "2026-12-31" if time.gmtime().tm_year < 2027 else "2027-06-01"}
    )
    reader = standin.client(made.token)
    assert reader.personal_access_tokens.get("self").name == "reader"
    with pytest.raises(gitlab.GitlabHttpError) as found:
        reader.http_post("/user/runners", post_data={"runner_type": "instance_type"})
    assert found.value.response_code == 403
    assert "insufficient_scope" in str(found.value.response_body)
    client.personal_access_tokens.delete(made.id)
    with pytest.raises(gitlab.GitlabAuthenticationError):
        reader.auth()


def test_unknown_things_are_said_as_gitlab_says_them(standin: Standin) -> None:
    client, headers = standin.client(), {"PRIVATE-TOKEN": ROOT_TOKEN}
    assert get(f"{standin.url}/api/v4/nothing", headers=headers).json() == {"error": "404 Not Found"}
    with pytest.raises(gitlab.GitlabGetError, match="404 Project Not Found"):
        client.projects.get("root/none")
    page = get(f"{standin.url}/")
    assert (page.status_code, page.headers["Location"]) == (302, "/users/sign_in")
    assert page.headers["Content-Type"].startswith("text/html")


def test_health_is_shown_to_the_machine_itself_alone(standin: Standin) -> None:
    assert get(f"{standin.url}/-/readiness").json()["status"] == "ok"
    assert get(f"{standin.url}/-/health").text == "GitLab OK"
    config = json.loads(standin.read("/var/opt/gitlab/standin/config.json"))
    standin.write("/var/opt/gitlab/standin/config.json", json.dumps({**config, "monitoring_whitelist": ["192.0.2.0/24"]}))
    standin.stop()
    standin.start()
    assert get(f"{standin.url}/-/readiness").status_code == 404


def test_while_it_boots_it_answers_502_with_a_page(fresh: Standin) -> None:
    fresh.boot_s = 3.0
    assert fresh.run("ctl", "reconfigure").returncode == 0
    fresh.start()
    found = get(f"{fresh.url}/api/v4/version")
    assert (found.status_code, found.headers["Content-Type"]) == (502, "text/html")
    until(lambda: get(f"{fresh.url}/api/v4/version").status_code != 502)
    assert get(f"{fresh.url}/api/v4/version").status_code == 401


def test_a_runner_lives_from_its_making_to_its_removal(standin: Standin) -> None:
    client = standin.client()
    client.auth()
    assert client.user is not None
    made = client.user.runners.create(
        {"runner_type": "instance_type", "description": "gitlab", "tag_list": ["docker", "ubuntu"], "run_untagged": False}
    )
    assert made.token.startswith("glrt-t1_")
    client.runners.verify(made.token)
    runner = client.runners.get(made.id)
    assert (runner.runner_type, runner.tag_list, runner.run_untagged) == ("instance_type", ["docker", "ubuntu"], False)
    assert runner.status == "online"
    assert "token" not in runner.attributes
    assert [one.id for one in client.runners_all.list(get_all=True)] == [made.id]
    runner.tag_list = ["gpu"]
    runner.save()
    assert client.runners.get(made.id).tag_list == ["gpu"]
    client.http_delete("/runners", query_data={"token": made.token})
    with pytest.raises(gitlab.GitlabVerifyError, match="403 Forbidden"):
        client.runners.verify(made.token)


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({}, 400, "runner_type is missing"),
        ({"runner_type": "nothing"}, 400, "runner_type does not have a valid value"),
        ({"runner_type": "project_type"}, 400, "project_id is missing"),
        ({"runner_type": "instance_type", "run_untagged": False}, 400, "not allowed to pick untagged jobs"),
        ({"runner_type": "instance_type", "maximum_timeout": 5}, 400, "at least 10 minutes"),
    ],
)
def test_a_runner_that_cannot_be(standin: Standin, fields: dict[str, Any], status: int, said: str) -> None:
    with pytest.raises(gitlab.GitlabHttpError) as found:
        standin.client().http_post("/user/runners", post_data=fields)
    assert found.value.response_code == status
    assert said in str(found.value.error_message)


def test_pages(standin: Standin) -> None:
    client = standin.client()
    for number in range(23):
        client.projects.create({"name": f"p{number}"})
    found = client.projects.list(iterator=True, per_page=10)
    assert (found.total, found.total_pages, found.per_page, found.next_page) == (23, 3, 10, 2)  # type: ignore[union-attr]
    assert len({one.id for one in found}) == 23
    assert len(client.projects.list(get_all=True)) == 23
    with pytest.raises(gitlab.GitlabHttpError, match="page is invalid"):
        client.http_get("/projects", query_data={"page": "x"})


def test_projects_and_variables(standin: Standin) -> None:
    client = standin.client()
    group = client.groups.create({"name": "Data", "path": "data"})
    project = client.projects.create({"name": "Data Lab", "path": "datalab", "namespace_id": group.id})
    assert project.path_with_namespace == "data/datalab"
    with pytest.raises(gitlab.GitlabCreateError, match="has already been taken"):
        client.projects.create({"name": "Data Lab", "path": "datalab", "namespace_id": group.id})
    same = client.projects.get("data/datalab")
    same.variables.create({"key": "DB_PASSWORD", "value": "long-enough-value", "masked": True})
    same.variables.create({"key": "PLAIN", "value": "x y"})
    assert same.variables.get("DB_PASSWORD").value == "long-enough-value"
    with pytest.raises(gitlab.GitlabCreateError, match="has already been taken"):
        same.variables.create({"key": "PLAIN", "value": "again"})
    with pytest.raises(gitlab.GitlabCreateError, match="is invalid"):
        same.variables.create({"key": "SHORT", "value": "short", "masked": True})
    same.variables.update("PLAIN", {"value": "z"})
    assert {one.key: one.value for one in same.variables.list(get_all=True)} == {"DB_PASSWORD": "long-enough-value", "PLAIN": "z"}
    same.variables.delete("PLAIN")
    with pytest.raises(gitlab.GitlabGetError, match="404 Variable Not Found"):
        same.variables.get("PLAIN")


def test_groups_in_groups(standin: Standin) -> None:
    client = standin.client()
    outer = client.groups.create({"name": "Data", "path": "data"})
    inner = client.groups.create({"name": "Apps", "path": "apps", "parent_id": outer.id})
    assert (inner.full_path, inner.full_name, inner.parent_id) == ("data/apps", "Data / Apps", outer.id)
    assert client.groups.get("data/apps").id == inner.id
    project = client.projects.create({"name": "web", "namespace_id": inner.id})
    assert (project.path_with_namespace, project.namespace["full_path"]) == ("data/apps/web", "data/apps")
    for fields in ({"path": "apps", "parent_id": outer.id}, {"path": "root"}, {"path": "web", "parent_id": inner.id}):
        with pytest.raises(gitlab.GitlabCreateError, match="has already been taken"):
            client.groups.create({"name": "x", **fields})
    with pytest.raises(gitlab.GitlabCreateError, match="404 Group Not Found"):
        client.groups.create({"name": "x", "path": "x", "parent_id": 99})
    with pytest.raises(gitlab.GitlabGetError, match="404 Group Not Found"):
        client.groups.get("apps")


def test_a_deploy_token_lives_from_its_making_to_its_removal(standin: Standin) -> None:
    client = standin.client()
    project, other = client.projects.create({"name": "images"}), client.projects.create({"name": "other"})
    made = project.deploytokens.create({"name": "ci", "scopes": ["write_registry", "read_registry"]})
    assert (made.username, made.expires_at, made.revoked, made.expired) == ("gitlab+deploy-token-1", None, False, False)
    assert made.scopes == ["read_registry", "write_registry"]
    assert made.token.startswith("gldt-")
    own = other.deploytokens.create(
        {"name": "ci", "scopes": ["read_repository"], "username": "reader", "expires_at": "2020-01-01"}
    )
    assert (own.username, own.expires_at, own.expired) == ("reader", "2020-01-01T00:00:00.000Z", True)
    (listed,) = project.deploytokens.list(get_all=True)
    assert (listed.id, listed.name) == (made.id, "ci")
    assert "token" not in listed.attributes
    assert "token" not in project.deploytokens.get(made.id).attributes
    assert other.deploytokens.list(active=True, get_all=True) == []
    for wrong in (lambda: other.deploytokens.get(made.id), lambda: other.deploytokens.delete(made.id)):
        with pytest.raises(gitlab.GitlabError, match="404 Not found"):
            wrong()
    project.deploytokens.delete(made.id)
    assert project.deploytokens.list(get_all=True) == []
    client.projects.delete(other.id)
    again = client.projects.create({"name": "other"})
    assert again.deploytokens.list(get_all=True) == []


def test_a_deploy_token_that_cannot_be(standin: Standin) -> None:
    client = standin.client()
    project = client.projects.create({"name": "images"})
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "name is missing, scopes is missing, scopes does not have a valid value"),
        ({"name": "x", "scopes": ["api"]}, "scopes does not have a valid value"),
        ({"name": "x", "scopes": []}, "Scopes can't be blank"),
        ({"name": "x", "scopes": ["read_registry"], "expires_at": "soon"}, "expires_at is invalid"),
        ({"name": "x", "scopes": ["read_registry"], "username": "a b"}, "Username can contain only letters, digits, '_'"),
        ({"name": "x" * 256, "scopes": ["read_registry"]}, "Name is too long"),
    ]
    for fields, said in cases:
        with pytest.raises(gitlab.GitlabHttpError) as found:
            client.http_post(f"/projects/{project.id}/deploy_tokens", post_data=fields)
        assert found.value.response_code == 400
        assert said in str(found.value.error_message)
    assert project.deploytokens.list(get_all=True) == []


def run_jobs(standin: Standin, token: str) -> str | None:
    """Does what a runner does, once."""
    session = requests.Session()
    session.trust_env = False
    asked = session.post(f"{standin.url}/api/v4/jobs/request", json={"token": token}, timeout=10)
    if asked.status_code != 201:
        return None
    job = asked.json()
    told = {one["key"]: one["value"] for one in job["variables"]}
    state = told.get("STANDIN_RESULT", "success")
    answer = session.put(f"{standin.url}/api/v4/jobs/{job['id']}", json={"token": job["token"], "state": state}, timeout=10)
    return str(answer.status_code)


def test_a_pipeline_goes_through_gitlabs_statuses(standin: Standin) -> None:
    client = standin.client()
    project = client.projects.create({"name": "jobs", "initialize_with_readme": True})
    runner = client.http_post("/user/runners", post_data={"runner_type": "instance_type"})
    trigger = project.triggers.create({"description": "outside"})
    assert trigger.token.startswith("glptt-")

    pipeline = project.trigger_pipeline("main", trigger.token, variables={"STANDIN_RESULT": "failed", "NAME": "value"})
    assert pipeline.status == "created"
    assert {one.key: one.value for one in pipeline.variables.list(get_all=True)}["NAME"] == "value"
    assert run_jobs(standin, runner["token"]) == "200"
    pipeline.refresh()
    assert pipeline.status == "failed"
    pipeline.retry()
    pipeline.refresh()
    assert pipeline.status == "pending"
    pipeline.cancel()
    pipeline.refresh()
    assert pipeline.status == "canceled"
    assert run_jobs(standin, runner["token"]) is None

    by_form = requests.Session()
    by_form.trust_env = False
    form: dict[str, Any] = {"token": (None, trigger.token), "ref": (None, "main"), "inputs[topic]": (None, "events")}
    made = by_form.post(f"{standin.url}/api/v4/projects/{project.id}/trigger/pipeline", files=form, timeout=10)
    assert made.status_code == 201, made.text
    assert run_jobs(standin, runner["token"]) == "200"
    assert project.pipelines.get(made.json()["id"]).status == "success"
    for word in ("manual", "skipped"):
        found = project.pipelines.create({"ref": "main", "variables": [{"key": "STANDIN_RESULT", "value": word}]})
        assert found.status == word

    with pytest.raises(gitlab.GitlabCreateError, match="Reference not found"):
        project.pipelines.create({"ref": "nothing"})
    with pytest.raises(gitlab.GitlabCreateError) as refused:
        project.trigger_pipeline("main", "glptt-wrong")
    assert refused.value.response_code == 404


def test_the_state_survives_a_kill_and_holds_no_secret(standin: Standin) -> None:
    client = standin.client()
    project = client.projects.create({"name": "kept"})
    project.variables.create({"key": "DB_PASSWORD", "value": "variable-value-123", "masked": True})
    trigger = project.triggers.create({"description": "outside"})
    runner = client.http_post("/user/runners", post_data={"runner_type": "instance_type"})
    deploy_token = project.deploytokens.create({"name": "ci", "scopes": ["read_registry"]})
    standin.stop()
    standin.start()
    client = standin.client()
    assert client.projects.get("root/kept").variables.get("DB_PASSWORD").value == "variable-value-123"
    client.runners.verify(runner["token"])
    login = f"{standin.url}/jwt/auth?service=container_registry"
    assert get(login, auth=(deploy_token.username, deploy_token.token)).status_code == 200
    secrets = [ROOT_TOKEN, SECRETS["root_password"], "variable-value-123", trigger.token, runner["token"], deploy_token.token]
    for file in (standin.root / "var/opt/gitlab/standin").iterdir():
        if file.is_file():
            assert not [secret for secret in secrets if secret in file.read_text()], file
            assert file.stat().st_mode & 0o077 == 0, file
    assert not [secret for secret in secrets if secret in standin.read("api.log")]


def test_the_registry_lets_in_who_gitlab_knows(standin: Standin) -> None:
    standin.client().projects.create({"name": "images"})
    login, ask = f"{standin.url}/jwt/auth?service=container_registry", "&scope=repository:root/images/ubuntu:pull,push"
    assert get(login).status_code == 401
    assert get(login, auth=("root", "wrong")).status_code == 403
    assert get(login, auth=("root", SECRETS["root_password"])).status_code == 200
    token = get(login + ask, auth=("root", ROOT_TOKEN)).json()["token"]
    assert access(token) == [{"type": "repository", "name": "root/images/ubuntu", "actions": ["pull", "push"]}]
    assert access(get(login + ask).json()["token"])[0]["actions"] == []
    other = get(login + "&scope=repository:root/none:push", auth=("root", ROOT_TOKEN)).json()["token"]
    assert access(other)[0]["actions"] == []
    assert ADDRESS in standin.url


def test_a_deploy_token_may_do_in_its_project_what_its_scopes_say(standin: Standin) -> None:
    client = standin.client()
    project = client.projects.create({"name": "images"})
    client.projects.create({"name": "images2"})

    def may(who: Any, path: str) -> list[str]:
        url = f"{standin.url}/jwt/auth?service=container_registry&scope=repository:{path}:pull,push,delete"
        (found,) = access(get(url, auth=(who.username, who.token)).json()["token"])
        return list(found["actions"])

    rights = {"read_registry": ["pull"], "write_registry": ["push"], "read_repository": []}
    cases = [([scope], allowed) for scope, allowed in rights.items()] + [(list(rights), ["pull", "push"])]
    for scopes, allowed in cases:
        made = project.deploytokens.create({"name": "ci", "scopes": scopes})
        assert may(made, "root/images/web") == may(made, "root/images") == allowed, scopes
        assert may(made, "root/images2/web") == may(made, "root/none/web") == [], scopes
    project.container_registry_access_level = "disabled"
    project.save()
    assert client.projects.get(project.id).container_registry_enabled is False
    assert may(made, "root/images/web") == []


def test_a_deploy_token_that_is_over_opens_nothing(standin: Standin) -> None:
    project = standin.client().projects.create({"name": "images"})
    login = f"{standin.url}/jwt/auth?service=container_registry"

    def make(days: int = 0) -> Any:
        day = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
        return project.deploytokens.create({"name": "ci", "scopes": ["read_registry"], "expires_at": day if days else ""})

    made, lasting, expired = make(), make(1), make(-1)
    assert get(login, auth=(made.username, made.token)).status_code == 200
    assert get(login, auth=(lasting.username, lasting.token)).status_code == 200
    assert get(login, auth=("root", made.token)).status_code == 403
    assert get(login, auth=(made.username, made.token + "x")).status_code == 403
    assert get(login, auth=(expired.username, expired.token)).status_code == 403
    project.deploytokens.delete(made.id)
    assert get(login, auth=(made.username, made.token)).status_code == 403
    assert get(f"{standin.url}/api/v4/user", headers={"PRIVATE-TOKEN": lasting.token}).status_code == 401


def test_a_registry_takes_a_push_with_a_deploy_token(standin: Standin, tmp_path: Path) -> None:
    """Debian's, which checks what GitLab signed."""
    client = standin.client()
    project = client.projects.create({"name": "images"})
    client.projects.create({"name": "other"})
    writer = project.deploytokens.create({"name": "ci", "scopes": ["read_registry", "write_registry"]})
    reader = project.deploytokens.create({"name": "ci", "scopes": ["read_registry"]})
    auth = json.loads(standin.read("/var/opt/gitlab/registry/config.yml"))["auth"]
    with registry(tmp_path / "registry", json.dumps(auth)) as address:

        def begin_upload(who: Any, name: str) -> int:
            """As a Docker engine begins a push: refused first, told where to log in, then with a token."""
            upload = f"http://{address}/v2/{name}/blobs/uploads/"
            session = requests.Session()
            session.trust_env = False
            refused = session.post(upload, timeout=10)
            assert refused.status_code == 401
            told = dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["WWW-Authenticate"]))
            assert told["realm"] == f"{standin.url}/jwt/auth"
            asked = {"service": told["service"], "scope": told["scope"]}
            token = session.get(told["realm"], params=asked, auth=(who.username, who.token), timeout=10).json()["token"]
            return session.post(upload, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code

        assert begin_upload(writer, "root/images/web") == 202
        assert begin_upload(writer, "root/other/web") == 401
        assert begin_upload(reader, "root/images/web") == 401


def access(token: str) -> Any:
    import base64

    claims = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["access"]
