"""The apps' project and the login to its registry, made over the API of the stand-in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
import requests

from labctl.adapters.gitlab import GitLab, Invalid, NotThere
from labctl.adapters.vault import Absent, CasMismatch
from labctl.engine.steps.gitlab import ensure_registry
from labctl.model.catalogue import GITLAB_REGISTRY
from labctl.model.errors import UserError
from labctl.model.secret import Secret
from tests.gitlabstandin import ROOT_TOKEN, Standin

pytestmark = pytest.mark.integration


@pytest.fixture
def gitlab(standin: Standin) -> Iterator[GitLab]:
    found = GitLab(standin.url, Secret(ROOT_TOKEN))
    yield found
    found.close()


class FakeVault:
    """One secret."""

    def __init__(self) -> None:
        self.version = 0
        self.fields: dict[str, Secret] = {}

    def read(self, path: str) -> tuple[int, dict[str, Secret]]:
        assert path == GITLAB_REGISTRY
        if not self.version:
            raise Absent("there is no secret")
        return self.version, self.fields

    def write(self, _path: str, data: Mapping[str, Secret], cas: int) -> int:
        if cas != self.version:
            raise CasMismatch("the secret has another version than expected")
        self.version, self.fields = cas + 1, dict(data)
        return self.version


def say(_text: str) -> None:
    """Nobody listens."""


def test_projects_and_groups(standin: Standin, gitlab: GitLab) -> None:
    client = standin.client()
    numbered = client.groups.create({"name": "first", "path": "first"})
    outer = client.groups.create({"name": "Our Lab", "path": "lab", "visibility": "public"})
    with pytest.raises(NotThere, match="read project lab/ml/apps"):
        gitlab.project("lab/ml/apps")
    made = gitlab.create_project("lab/ml/apps")
    assert (made.path, made.registry) == ("lab/ml/apps", True)
    assert gitlab.project("lab/ml/apps") == made
    assert client.projects.get(made.id).visibility == "private"
    assert client.groups.get("lab/ml").parent_id == outer.id
    assert client.groups.get("lab/ml").visibility == "private"
    assert client.groups.get("lab").attributes == outer.attributes
    # Digits are the number of a group for GitLab, here of `first`.
    gitlab.create_project(f"{numbered.id}/apps")
    assert client.projects.get(f"{numbered.id}/apps").namespace["id"] != numbered.id
    with pytest.raises(Invalid, match=r"make project lab/ml/apps: GitLab refuses .*has already been taken"):
        gitlab.create_project("lab/ml/apps")
    with pytest.raises(Invalid, match=r"make group root: GitLab refuses .*has already been taken"):
        gitlab.create_project("root/apps")


def test_deploy_tokens(gitlab: GitLab) -> None:
    project = gitlab.create_project("lab/apps")
    made = gitlab.create_deploy_token(project.id, "labctl", "labctl-1", ("read_registry", "write_registry"))
    assert made.token.reveal() not in repr(made)
    for _ in range(21):
        gitlab.create_deploy_token(project.id, "other", "other", ("read_registry",))
    (found,) = gitlab.deploy_tokens(project.id, "labctl")
    assert (found.id, found.username, found.active) == (made.id, "labctl-1", True)
    assert set(found.scopes) == {"read_registry", "write_registry"}
    assert len(gitlab.deploy_tokens(project.id, "other")) == 21
    gitlab.revoke_deploy_token(project.id, made.id)
    assert gitlab.deploy_tokens(project.id, "labctl") == ()
    with pytest.raises(NotThere):
        gitlab.revoke_deploy_token(project.id, made.id)


def test_the_login_opens_the_registry_and_a_second_run_asks_gitlab_twice(standin: Standin, gitlab: GitLab) -> None:
    vault = FakeVault()

    def up() -> list[str]:
        return ensure_registry(gitlab, cast("Any", vault), "lab/apps", say)

    assert up() == ["project lab/apps made in GitLab", "registry credentials of lab/apps made"]
    assert rights(standin, vault.fields) == ["pull", "push"]
    before = len(standin.read("api.log").splitlines())
    assert up() == []
    assert len(standin.read("api.log").splitlines()) - before == 2
    project = standin.client().projects.get("lab/apps")
    kept = vault.fields["username"].reveal()
    assert [(token.name, token.username) for token in project.deploytokens.list(get_all=True)] == [("labctl", kept)]
    lost = project.deploytokens.create({"name": "labctl", "scopes": ["read_registry"]})
    mine = project.deploytokens.create({"name": "mine", "scopes": ["read_registry"]})
    assert up() == [f"deploy token {lost.id} of lab/apps, which the Vault does not have, revoked"]
    project.deploytokens.delete(gitlab.deploy_tokens(project.id, "labctl")[0].id)
    assert rights(standin, vault.fields) is None
    assert up() == ["registry credentials of lab/apps made"]
    assert rights(standin, vault.fields) == ["pull", "push"]
    assert project.deploytokens.get(mine.id)
    project.container_registry_access_level = "disabled"
    project.save()
    with pytest.raises(UserError, match="registry of project lab/apps is off"):
        up()


def rights(standin: Standin, login: Mapping[str, Secret]) -> list[str] | None:
    """What the registry's login gives for an app's image; None where it is refused."""
    session = requests.Session()
    session.trust_env = False
    asked = {"service": "container_registry", "scope": "repository:lab/apps/web:pull,push"}
    auth = (login["username"].reveal(), login["token"].reveal())
    found = session.get(f"{standin.url}/jwt/auth", params=asked, auth=auth, timeout=10)
    if found.status_code != 200:
        return None
    claims = found.json()["token"].split(".")[1]
    return list(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["access"][0]["actions"])
