"""The registry's login is made once, lost never, and found anew wherever an earlier run was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from labctl.adapters.gitlab import DeployToken, Invalid, NewDeployToken, NotThere, Project
from labctl.adapters.vault import Absent, CasMismatch
from labctl.engine.steps.gitlab import ensure_registry
from labctl.model.catalogue import GITLAB_REGISTRY
from labctl.model.errors import AdapterError, UserError
from labctl.model.secret import Secret

PATH = "lab/apps"
MADE = f"registry credentials of {PATH} made"
NEW = [f"project {PATH} made in GitLab", MADE]


class Cut(BaseException):
    """The run ends here."""


class Lab:
    """A GitLab with one project at most, and a Vault with one secret; each call may be the last, before or after its work."""

    url = "http://gitlab.example.com"

    def __init__(self) -> None:
        self.found: Project | None = None
        self.tokens: dict[int, DeployToken] = {}
        self.values: dict[str, str] = {}
        self.version = 0
        self.kept: dict[str, Secret] = {}
        self.points = 0
        self.cut_at: int | None = None
        self.calls: list[str] = []
        self.refuses: Exception | None = None

    def up(self) -> list[str]:
        self.calls.clear()
        return ensure_registry(cast("Any", self), cast("Any", self), PATH, lambda _text: None)

    def check(self) -> None:
        """The Vault's login is GitLab's one, active and for both ways."""
        own = [token for token in self.tokens.values() if token.name == "labctl" and token.active]
        assert [token.username for token in own] == [self.kept["username"].reveal()]
        assert self.values[own[0].username] == self.kept["token"].reveal()
        assert own[0].scopes == ("read_registry", "write_registry")

    def add(self, name: str, username: str, *, active: bool = True, scopes: Sequence[str] = ("read_registry",)) -> int:
        number = 1 + max(self.tokens, default=0)
        self.tokens[number] = DeployToken(number, name, username, active, tuple(scopes))
        self.values[username] = f"gldt-{number}-{len(self.values)}"
        return number

    def _point(self) -> None:
        self.points += 1
        if self.points == self.cut_at:
            raise Cut

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        self._point()

    # --- GitLab

    def project(self, path: str) -> Project:
        self._begin("project")
        if self.found is None:
            raise NotThere(f"cannot read project {path}: it is not there")
        return self.found

    def create_project(self, path: str) -> Project:
        self._begin("create_project")
        if self.refuses:
            raise self.refuses
        self.found = Project(1, path, registry=True)
        self._point()
        return self.found

    def deploy_tokens(self, project: int, name: str) -> tuple[DeployToken, ...]:
        self._begin("deploy_tokens")
        assert self.found
        assert project == self.found.id
        return tuple(token for token in self.tokens.values() if token.name == name)

    def create_deploy_token(self, _project: int, name: str, username: str, scopes: Sequence[str]) -> NewDeployToken:
        self._begin("create_deploy_token")
        number = self.add(name, username, scopes=scopes)
        self._point()
        return NewDeployToken(number, username, Secret(self.values[username]))

    def revoke_deploy_token(self, _project: int, number: int) -> None:
        self._begin("revoke_deploy_token")
        del self.tokens[number]
        self._point()

    # --- the Vault

    def read(self, path: str) -> tuple[int, dict[str, Secret]]:
        self._begin("read")
        assert path == GITLAB_REGISTRY
        if not self.version:
            raise Absent("there is no secret")
        return self.version, self.kept

    def write(self, path: str, data: Mapping[str, Secret], cas: int) -> int:
        self._begin("write")
        assert path == GITLAB_REGISTRY
        if self.refuses:
            raise self.refuses
        if cas != self.version:
            raise CasMismatch("the secret has another version than expected")
        self.version, self.kept = cas + 1, dict(data)
        self._point()
        return self.version


def test_it_is_made_once_and_a_second_run_asks_three_questions() -> None:
    lab = Lab()
    assert lab.up() == NEW
    lab.check()
    before = dict(lab.kept)
    assert lab.up() == []
    assert lab.calls == ["project", "read", "deploy_tokens"]
    assert (lab.kept, lab.version) == (before, 1)


def test_wherever_a_run_is_cut_off_the_next_one_ends_well() -> None:
    whole = Lab()
    whole.add("labctl", "lost")
    whole.up()
    assert whole.points > 8
    for cut_at in range(1, whole.points + 1):
        lab = Lab()
        lab.add("labctl", "lost")
        lab.cut_at = cut_at
        with pytest.raises(Cut):
            lab.up()
        lab.up()
        lab.check()
        assert lab.up() == [], cut_at


def test_a_token_whose_value_was_lost_is_revoked_and_those_of_others_stay() -> None:
    lab = Lab()
    lab.found = Project(7, PATH, registry=True)
    lost, mine = lab.add("labctl", "labctl-0123abcd"), lab.add("mine", "labctl-89abcdef")
    dead = lab.add("labctl", "labctl-4567cdef", active=False)
    assert lab.up() == [MADE, f"deploy token {lost} of {PATH}, which the Vault does not have, revoked"]
    lab.check()
    assert {mine, dead} < set(lab.tokens)
    assert lost not in lab.tokens


@pytest.mark.parametrize(
    "change",
    [
        {"active": False},
        {"scopes": ("read_registry",)},
        {"username": "gitlab+deploy-token-1"},
        {"name": "mine"},
    ],
)
def test_a_login_that_does_not_do_is_replaced(change: dict[str, Any]) -> None:
    lab = Lab()
    lab.up()
    (number,) = lab.tokens
    old = lab.tokens[number]
    fields = {"name": old.name, "username": old.username, "active": True, "scopes": old.scopes} | change
    lab.tokens[number] = DeployToken(number, **fields)
    assert MADE in lab.up()
    lab.check()
    assert lab.version == 2
    assert lab.kept["username"].reveal() != old.username


def test_half_a_secret_is_none() -> None:
    lab = Lab()
    lab.up()
    del lab.kept["token"]
    assert lab.up()[0] == MADE
    lab.check()


@pytest.mark.parametrize("error", [CasMismatch("another version"), AdapterError("the Vault is sealed")])
def test_a_vault_that_refuses_leaves_no_token(error: Exception) -> None:
    lab = Lab()
    lab.found = Project(1, PATH, registry=True)
    lab.refuses = error
    with pytest.raises(type(error)):
        lab.up()
    assert lab.tokens == {}


def test_a_project_without_a_registry_is_told_with_the_remedy() -> None:
    lab = Lab()
    lab.found = Project(1, PATH, registry=False)
    with pytest.raises(UserError, match="the container registry of project lab/apps is off") as caught:
        lab.up()
    assert "Turn it on" in caught.value.hint
    assert lab.calls == ["project"]


def test_a_name_that_gitlab_refuses_is_told_with_the_remedy() -> None:
    lab = Lab()
    lab.refuses = Invalid("cannot make group api: GitLab refuses (api is a reserved name)")
    with pytest.raises(Invalid, match="reserved") as caught:
        lab.up()
    assert "apps.project" in caught.value.hint
