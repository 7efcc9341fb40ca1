"""A job of the lab's repository logs in to a real OpenBao with a token that its GitLab signed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.adapters.vault import Denied, Vault, login_jwt
from labctl.engine.steps.logins import JWT_VARIABLE, ROLE_VARIABLE
from labctl.engine.steps.vault import open_vault
from labctl.model.errors import LabError, UserError
from labctl.model.lab import Lab
from labctl.model.secret import Secret
from tests.gitlabissuer import Issuer, new_key, serving
from tests.integration.vault.conftest import WORKER, Bench

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving(f"127.86.89.{10 + WORKER}") as found:
        yield found


@pytest.fixture
def ready(bench: Bench, issuer: Issuer) -> Bench:
    bench.lab = Lab.model_validate(
        {"name": "datalab", "target": {"sandbox": {}}, "ci": {"project": "lab/infra", "gitlab": issuer.url}}
    )
    bench.ensure().client.revoke_self()
    return bench


def may_write(vault: Vault) -> bool:
    try:
        vault.write("store/terraform", {"access_key": Secret("x"), "secret_key": Secret("y")}, cas=99)
    except Denied:
        return False
    except LabError:
        return True
    return True


def test_a_job_gets_what_its_role_may_and_others_get_nothing(ready: Bench, issuer: Issuer) -> None:
    vault = ready.server.vault()
    branch = {"ref": "feature", "ref_protected": "false"}
    review = login_jwt(vault, "ci-review", issuer.token(**branch))
    assert review.read("store/terraform")[1]["access_key"].reveal()
    assert not may_write(review)
    for path in ("store/root", "gitlab/root", "platform/ssh"):
        with pytest.raises(Denied):
            review.read(path)
    assert not may_write(login_jwt(vault, "ci-drift", issuer.token()))
    up = login_jwt(vault, "ci-up", issuer.token())
    assert may_write(up)
    assert up.lookup_self().policies == ("default", "labctl")
    refused = {
        "an unprotected branch": ("ci-up", issuer.token(**branch)),
        "an unprotected branch of the same name": ("ci-up", issuer.token(ref_protected="false")),
        "another protected branch": ("ci-up", issuer.token(ref="release")),
        "a protected tag": ("ci-up", issuer.token(ref_type="tag")),
        "drift off main": ("ci-drift", issuer.token(**branch)),
        "another project": ("ci-review", issuer.token(project_path="lab/other")),
        "a project whose path begins alike": ("ci-review", issuer.token(project_path="lab/infra2")),
        "another audience": ("ci-review", issuer.token(aud="https://vault.example.com")),
        "another issuer": ("ci-review", issuer.token(iss="https://gitlab.example.com")),
        "a job that is over": ("ci-review", issuer.token(exp=int(time.time()) - 600, nbf=1, iat=1)),
        "another key": ("ci-review", issuer.token(key=new_key())),
        "an unknown role": ("ci-all", issuer.token()),
    }
    for what, (role, token) in refused.items():
        with pytest.raises(LabError) as error:
            login_jwt(vault, role, token)
        assert token.reveal() not in str(error.value), what
    assert issuer.token().reveal()[:40] not in ready.server.audit_log()


def test_nothing_is_written_a_second_time_and_a_new_project_takes_over(ready: Bench, issuer: Issuer) -> None:
    again = ready.ensure()
    assert not [line for line in again.changes if "jwt" in line.lower()]
    ready.lab = Lab.model_validate(
        {"name": "datalab", "target": {"sandbox": {}}, "ci": {"project": "lab/moved", "gitlab": issuer.url, "branch": "trunk"}}
    )
    changes = ready.ensure().changes
    assert {line for line in changes if "jwt/role" in line} == {
        f"auth/jwt/role/{n} written" for n in ("ci-review", "ci-drift", "ci-up")
    }
    with pytest.raises(LabError):
        login_jwt(ready.server.vault(), "ci-review", issuer.token())
    login_jwt(ready.server.vault(), "ci-up", issuer.token(project_path="lab/moved", ref="trunk"))


def test_it_is_set_up_on_a_vault_whose_root_token_is_gone(bench: Bench, issuer: Issuer) -> None:
    bench.ensure()
    bench.lab = Lab.model_validate(
        {"name": "datalab", "target": {"sandbox": {}}, "ci": {"project": "lab/infra", "gitlab": issuer.url}}
    )
    assert "auth method jwt enabled" in bench.ensure().changes
    login_jwt(bench.server.vault(), "ci-review", issuer.token())


def test_labctl_logs_in_as_the_job_and_needs_no_key_of_an_operator(
    ready: Bench, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JWT_VARIABLE, issuer.token().reveal())
    with pytest.raises(UserError, match="LABCTL_VAULT_ROLE is not"):
        open_vault(ready.server.vault(), ready.keyring, ())
    monkeypatch.setenv(ROLE_VARIABLE, "ci-review")
    assert "ci-read" in open_vault(ready.server.vault(), ready.keyring, ()).lookup_self().policies
    monkeypatch.setenv(ROLE_VARIABLE, "ci-up")
    session = ready.ensure(identities=[])
    assert "labctl" in session.client.lookup_self().policies
    assert session.changes == ()


def test_a_missing_authority_is_named(bench: Bench, issuer: Issuer, tmp_path: Path) -> None:
    ci = {"project": "lab/infra", "gitlab": issuer.url, "ca_file": str(tmp_path / "none.pem")}
    bench.lab = Lab.model_validate({"name": "datalab", "target": {"sandbox": {}}, "ci": ci})
    with pytest.raises(UserError, match="cannot be read"):
        bench.ensure()
