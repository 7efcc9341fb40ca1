"""Who may do what in a real OpenBao: operators, guests, strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hvac
import pytest

from labctl.adapters.keys import generate_identity
from labctl.adapters.pki import create_authority
from labctl.adapters.vault import Absent, CasMismatch, Denied, Vault, seed
from labctl.model.catalogue import Generator, SecretSpec, catalogue
from labctl.model.errors import AdapterError, UserError
from labctl.model.lab import Lab
from labctl.model.secret import Secret

pytestmark = pytest.mark.integration


def test_operators_and_guests_may_change_later(bench: Any, tmp_path: Path) -> None:
    bench.ensure()
    second = tmp_path / "second.key"
    both = [bench.public, generate_identity(second)]
    changed = bench.ensure(recipients=both)
    assert len(changed.changes) == 2
    assert bench.ensure(recipients=both, identities=[second]).changes == ()

    buckets = {"store": {"vmid": 101, "buckets": ["terraform", "gitlab", "extra"]}}
    wider = Lab.model_validate({"name": "datalab", "target": {"sandbox": {}}, "foundation": buckets})
    session = bench.ensure(lab=wider, recipients=both)
    assert session.seeded.created == ("store/extra",)
    assert any(change.startswith("policy guest-store changed") for change in session.changes)

    stranger = tmp_path / "stranger.key"
    generate_identity(stranger)
    with pytest.raises(UserError, match="is not the key that it is encrypted to"):
        bench.ensure(identities=[stranger], recipients=both)


def test_a_guests_identity_works_once_and_reads_its_own(bench: Any) -> None:
    session = bench.ensure()
    operator, anybody = session.client, bench.server.vault()
    wrapped = operator.wrapped_secret_id("guest-gitlab", 60)
    secret_id = anybody.unwrap(wrapped)["secret_id"]
    with pytest.raises(AdapterError, match="used up or expired"):
        anybody.unwrap(wrapped)
    role_id = operator.role_id("guest-gitlab")
    guest = anybody.login_approle(role_id, secret_id)
    with pytest.raises(Denied, match="used up"):
        anybody.login_approle(role_id, secret_id)
    assert guest.read("store/gitlab") == operator.read("store/gitlab")
    for path in ("store/terraform", "store/root"):
        with pytest.raises(Denied, match=path):
            guest.read(path)
    with pytest.raises(Denied):
        guest.write("store/gitlab", {"x": Secret("y")}, cas=1)
    with pytest.raises(hvac.exceptions.Forbidden):
        operator.client.auth.approle.generate_secret_id("guest-gitlab")
    with pytest.raises(hvac.exceptions.Forbidden):
        operator.client.sys.create_or_update_acl_policy("other", "{}")


def test_secrets_are_written_with_check_and_set(bench: Any) -> None:
    operator = bench.ensure().client
    before = operator.read("store/terraform")
    with pytest.raises(CasMismatch):
        operator.write("store/terraform", {"access_key": Secret("x")}, cas=0)
    assert operator.read("store/terraform") == before
    assert operator.write("store/terraform", before[1], cas=1) == 2
    with pytest.raises(Absent, match="gitlab/runner"):
        operator.read("gitlab/runner")
    assert operator.write("gitlab/runner", {"token": Secret("from GitLab")}, cas=0) == 1
    assert bench.ensure().seeded.awaited == ("platform/ssh",)
    entries = {entry.path: entry.version for entry in operator.list_secrets()}
    assert entries["store/terraform"] == 2
    assert entries["gitlab/runner"] == 1

    grown = SecretSpec("store/terraform", {**catalogue(bench.lab)[-1].fields, "more": Generator("token")}, ("labctl",), "d", "r")
    assert seed(operator, [grown]).completed == ("store/terraform",)
    version, fields = operator.read("store/terraform")
    assert (version, fields["secret_key"], set(fields)) == (3, before[1]["secret_key"], {"access_key", "secret_key", "more"})

    with pytest.raises(hvac.exceptions.Forbidden):
        operator.client.secrets.kv.v2.delete_latest_version_of_secret("store/terraform", mount_point="lab")


def test_another_labs_authority_is_not_trusted(bench: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text(create_authority("other").cert_pem)
    status = Vault(bench.server.url, other).status()
    assert not status.reachable
    assert "not signed by this lab's authority" in status.problem
    with pytest.raises(UserError, match="this lab's authority"):
        bench.ensure(vault_factory=lambda: Vault(bench.server.url, other))
    assert bench.server.vault().status().reachable


def test_what_came_of_a_guests_identity_can_be_taken_back_by_labctl_alone(bench: Any) -> None:
    labctl = bench.ensure().client
    role_id = labctl.role_id("guest-gitlab")
    token = labctl.wrapped_secret_id("guest-gitlab", ttl_s=60)
    assert labctl.wrapping_alive(token)
    assert labctl.wrapping_alive(token), "looking does not use it up"
    unused = labctl.unwrap(token)["secret_id"]
    assert not labctl.wrapping_alive(token)
    used = labctl.unwrap(labctl.wrapped_secret_id("guest-gitlab", ttl_s=60))["secret_id"]
    thief = bench.server.vault().login_approle(role_id, used)
    other = bench.server.vault().login_approle(
        labctl.role_id("guest-docker"), labctl.unwrap(labctl.wrapped_secret_id("guest-docker", ttl_s=60))["secret_id"]
    )
    assert labctl.withdraw_secret_ids("guest-gitlab") == 1, "that which logged in is gone by itself"
    assert labctl.withdraw_secret_ids("guest-gitlab") == 0
    with pytest.raises(Denied):
        bench.server.vault().login_approle(role_id, unused)
    assert thief.token_alive()
    assert labctl.end_logins("guest-gitlab") == 1
    assert not thief.token_alive()
    assert other.token_alive()
    assert labctl.token_alive()
    for call in (other.end_logins, other.withdraw_secret_ids):
        with pytest.raises(Denied):
            call("guest-gitlab")


def test_a_guest_sees_whether_an_awaited_secret_is_there_and_no_other_list(bench: Any) -> None:
    labctl = bench.ensure().client
    secret_id = labctl.unwrap(labctl.wrapped_secret_id("guest-gitlab", ttl_s=60))["secret_id"]
    guest = bench.server.vault().login_approle(labctl.role_id("guest-gitlab"), secret_id)
    names = guest.client.secrets.kv.v2.list_secrets("gitlab", mount_point="lab")["data"]["keys"]
    assert names == ["root"]
    for folder in ("", "store", "platform"):
        with pytest.raises(hvac.exceptions.Forbidden):
            guest.client.secrets.kv.v2.list_secrets(folder, mount_point="lab")
