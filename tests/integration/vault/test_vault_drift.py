"""A Vault's drift against a real OpenBao: what was changed by hand is named, what is harmless is not, and by whose login."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import hvac
import pytest

from labctl.adapters.vault import Denied, Reading, Vault
from labctl.engine.drift.area import Looking
from labctl.engine.drift.vault import _vault, nightly_credentials
from labctl.engine.ownprovider import provider_access, provider_login
from labctl.engine.provisioning import grant
from labctl.engine.steps.vault import KEYS
from labctl.model.catalogue import DRIFT, OPERATOR
from labctl.model.drift import AreaDrift, Kind, Severity
from labctl.model.drift.vault import compare_secret_ids
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.secret import Secret
from labctl.model.vaultroles import policies

pytestmark = pytest.mark.integration


class _Stack:
    """Foundation and platform, as a run knows them."""

    def __init__(self, name: str, outputs: dict[str, Any]) -> None:
        self.name = self.layer = name
        self.state = type("State", (), {"deployed": True, "outputs": outputs})


class _Run:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.stacks = (_Stack("foundation", {"buckets": list(lab.foundation.store.buckets)}), _Stack("platform", {}))


def seen(lab: Lab, vault: Vault) -> AreaDrift:
    area = Looking("vault")
    _vault(_Run(lab), area, Reading(vault))  # type: ignore[arg-type]
    return area.told()


class _RootKept:
    """The root token of the bench's Vault, which `ensure` would revoke: as an administrator who changes things by hand."""

    @staticmethod
    def of(bench: Any) -> Vault:
        held: list[Secret] = []

        class Remembering(Vault):
            def initialise(self, shares: int = 1, threshold: int = 1) -> Any:
                result = super().initialise(shares, threshold)
                # A child of its own outlives neither: an orphan does.
                held.append(result.root_token)
                return result

            def revoke_self(self) -> None:
                if held and self.token.reveal() == held[0].reveal() and len(held) == 1:
                    orphan = self.client.auth.token.create_orphan(policies=["root"])["auth"]["client_token"]
                    held.append(Secret(orphan))
                super().revoke_self()

        bench.ensure(vault_factory=lambda: Remembering(bench.server.url, bench.server.ca_file))
        assert bench.keyring.exists(KEYS)
        return bench.server.vault(held[1])


@pytest.fixture
def admin(bench: Any) -> Vault:
    """Somebody who may do everything; GitLab and labctl have delivered what the catalogue awaits."""
    root = _RootKept.of(bench)
    root.write("gitlab/runner", {"token": Secret("glrt-1")}, cas=0)
    root.write("platform/ssh", {"private_key": Secret("key")}, cas=0)
    return root


def nightly(bench: Any, operator: Vault) -> Vault:
    given, _ = nightly_credentials(operator)
    return bench.server.vault().login_approle(given.role_id, given.secret_id)  # type: ignore[no-any-return]


def test_the_nightly_login_sees_all_that_the_operator_sees_and_reads_one_secret(bench: Any, admin: Vault) -> None:
    operator = bench.ensure().client
    night = nightly(bench, operator)
    for login in (operator, night):
        found = seen(bench.lab, login)
        assert (found.findings, found.problems, found.notes) == ((), (), ()), found
        assert found.looked > 25
    assert night.read("store/terraform") == operator.read("store/terraform")
    for path in ("store/root", "gitlab/root", "platform/ssh", "gitlab/runner"):
        with pytest.raises(Denied):
            night.read(path)
    for refused in (
        lambda: night.write("store/terraform", {"x": Secret("y")}, cas=1),
        lambda: night.client.sys.create_or_update_acl_policy(DRIFT, "{}"),
        lambda: night.client.auth.approle.create_or_update_approle(DRIFT, token_policies=[OPERATOR]),
        lambda: night.wrapped_secret_id(OPERATOR, 60),
        lambda: night.wrapped_secret_id(DRIFT, 60),
    ):
        with pytest.raises((Denied, hvac.exceptions.Forbidden)):
            refused()


SEEDED: tuple[tuple[str, Callable[[Vault], Any], Kind, Severity], ...] = (
    (
        "policy/guest-docker",
        lambda v: v.client.sys.create_or_update_acl_policy("guest-docker", 'path "lab/data/*" { capabilities = ["read"] }'),
        Kind.CHANGED,
        Severity.HIGH,
    ),
    ("policy/guest-gitlab", lambda v: v.client.sys.delete_acl_policy("guest-gitlab"), Kind.MISSING, Severity.MEDIUM),
    (
        "policy/mine",
        lambda v: v.client.sys.create_or_update_acl_policy("mine", 'path "x" { capabilities = ["read"] }'),
        Kind.UNMANAGED,
        Severity.LOW,
    ),
    ("mount/elsewhere/", lambda v: v.client.sys.enable_secrets_engine("kv", path="elsewhere"), Kind.UNMANAGED, Severity.LOW),
    (
        "mount/lab/",
        lambda v: v.client.secrets.kv.v2.configure(max_versions=1, cas_required=False, mount_point="lab"),
        Kind.CHANGED,
        Severity.HIGH,
    ),
    ("login/userpass/", lambda v: v.client.sys.enable_auth_method("userpass"), Kind.UNMANAGED, Severity.MEDIUM),
    (
        "role/guest-vault",
        lambda v: v.client.auth.approle.create_or_update_approle(
            "guest-vault", secret_id_bound_cidrs=[], token_bound_cidrs=[], token_policies=["guest-vault", "labctl"]
        ),
        Kind.CHANGED,
        Severity.HIGH,
    ),
    (
        "role/labctl",
        lambda v: v.client.auth.approle.create_or_update_approle("labctl", token_ttl=99),
        Kind.CHANGED,
        Severity.MEDIUM,
    ),
    ("role/guest-store", lambda v: v.client.auth.approle.delete_role("guest-store"), Kind.MISSING, Severity.MEDIUM),
    (
        "role/back-door",
        lambda v: v.client.auth.approle.create_or_update_approle("back-door", token_policies=["labctl"]),
        Kind.UNMANAGED,
        Severity.HIGH,
    ),
    (
        "secret/store/mlflow",
        lambda v: v.client.secrets.kv.v2.delete_latest_version_of_secret("store/mlflow", mount_point="lab"),
        Kind.MISSING,
        Severity.HIGH,
    ),
    (
        "secret/store/gitlab",
        lambda v: v.client.secrets.kv.v2.delete_metadata_and_all_versions("store/gitlab", mount_point="lab"),
        Kind.MISSING,
        Severity.HIGH,
    ),
    (
        "secret/gitlab/root",
        lambda v: v.write("gitlab/root", {"password": Secret("only-this")}, cas=1),
        Kind.CHANGED,
        Severity.HIGH,
    ),
    ("secret/notes/mine", lambda v: v.write("notes/mine", {"a": Secret("b")}, cas=0), Kind.UNMANAGED, Severity.LOW),
)


def provision(vault: Vault) -> None:
    grant(vault, "bucket", "measurements")
    vault.write("projects/bucket/measurements", {"access_key": Secret("a"), "secret_key": Secret("b")}, cas=0)
    vault.write("projects/kafka/orders", {"topic": Secret("orders")}, cas=0)
    vault.write("projects/kafka/orders/billing", {"group": Secret("billing")}, cas=0)


HARMLESS: tuple[tuple[str, Callable[[Vault], Any]], ...] = (
    (
        "white space in a policy, and the order of its rights",
        lambda v: v.client.sys.create_or_update_acl_policy("guest-docker", reordered(v), pretty_print=False),
    ),
    ("a new version of a secret", lambda v: v.write("store/lakehouse", v.read("store/lakehouse")[1], cas=1)),
    ("a field more in a secret", lambda v: v.write("store/sandbox", {**v.read("store/sandbox")[1], "x": Secret("y")}, cas=1)),
    (
        "a role written again as it is",
        lambda v: v.client.auth.approle.create_or_update_approle(
            "guest-docker", token_bound_cidrs=["127.0.0.0/8"], token_policies=["guest-docker"]
        ),
    ),
    ("logins and secret-ids that are out", lambda v: v.wrapped_secret_id("guest-docker", 60)),
    ("what was provisioned", provision),
)


def reordered(vault: Vault) -> str:
    document = json.loads(vault.client.sys.read_acl_policy("guest-docker")["data"]["policy"])
    return json.dumps({"path": dict(reversed(document["path"].items()))}, indent=7)


def test_what_was_changed_by_hand_is_named_and_up_mends_it(bench: Any, admin: Vault) -> None:
    night = nightly(bench, bench.ensure().client)
    for _name, harmless in HARMLESS:
        harmless(admin)
    clean = seen(bench.lab, night)
    assert (clean.findings, clean.problems) == ((), ())
    for _name, change, _kind, _severity in SEEDED:
        change(admin)
    found = seen(bench.lab, night)
    assert found.problems == ()
    told = {one.id: (one.kind, one.severity) for one in found.findings}
    assert told == {name: (kind, severity) for name, _change, kind, severity in SEEDED}
    by_id = {one.id: one for one in found.findings}
    assert "bao kv undelete -mount=lab -versions=1 store/mlflow" in by_id["secret/store/mlflow"].text
    assert [change.path for change in by_id["secret/gitlab/root"].changes] == ["api_token"]
    assert "only-this" not in repr(found)

    admin.client.secrets.kv.v2.undelete_secret_versions("store/mlflow", [1], mount_point="lab")
    bench.ensure()
    left = {one.id for one in seen(bench.lab, night).findings}
    assert left == {name for name, _change, kind, _severity in SEEDED if kind is Kind.UNMANAGED}


def test_a_destroyed_secret_and_one_that_a_project_gave_back(bench: Any, admin: Vault) -> None:
    operator = bench.ensure().client
    provision(admin)
    kv = admin.client.secrets.kv.v2
    admin.write("store/mlflow", admin.read("store/mlflow")[1], cas=1)
    kv.destroy_secret_versions("store/mlflow", [2], mount_point="lab")
    kv.destroy_secret_versions("store/gitlab", [1], mount_point="lab")
    kv.delete_latest_version_of_secret("projects/bucket/measurements", mount_point="lab")
    found = seen(bench.lab, operator)
    texts = {one.id: one.text for one in found.findings}
    assert "bao kv rollback -mount=lab -version=1 store/mlflow" in texts["secret/store/mlflow"]
    assert "every version" in texts["secret/store/gitlab"]
    assert set(texts) == {"secret/store/mlflow", "secret/store/gitlab"}
    assert found.notes == ("the credentials of bucket measurements were deleted in the Vault: it gets in no more",)


def test_what_lab_yaml_wants_and_nobody_applied_is_pending(bench: Any, admin: Vault) -> None:
    operator = bench.ensure().client
    wider = Lab.model_validate(
        {
            "name": "datalab",
            "target": {"sandbox": {}},
            "foundation": {"store": {"buckets": ["sandbox", "terraform", "gitlab", "lakehouse", "mlflow", "extra"]}},
        }
    )
    run = _Run(wider)
    run.stacks[0].state.outputs["buckets"] = list(bench.lab.foundation.store.buckets)
    area = Looking("vault")
    _vault(run, area, Reading(operator))  # type: ignore[arg-type]
    told = {one.id: one.kind for one in area.told().findings}
    assert told == {"policy/guest-store": Kind.PENDING, "secret/store/extra": Kind.PENDING}


def test_an_older_vault_says_what_brings_the_rights(bench: Any, admin: Vault) -> None:
    """Before this version, labctl itself could not list policies and roles; it still can bring itself to it."""
    operator = bench.ensure().client
    document = json.loads(policies(bench.lab)[OPERATOR])
    for path in ("lab/subkeys/*", "auth/approle/role/", "sys/policies/acl/", f"sys/policies/acl/{DRIFT}"):
        del document["path"][path]
    admin.client.sys.create_or_update_acl_policy(OPERATOR, json.dumps(document))
    admin.client.sys.delete_acl_policy(DRIFT)
    admin.client.auth.approle.delete_role(DRIFT)
    found = seen(bench.lab, operator)
    assert found.problems
    assert all("`labctl up --layer foundation` gives the login the rights" in problem for problem in found.problems)
    bench.ensure()
    assert seen(bench.lab, operator).problems == ()
    assert seen(bench.lab, operator).findings == ()
    nightly(bench, operator).lookup_self()


def test_secret_ids_that_end_are_told(bench: Any, admin: Vault) -> None:
    operator = bench.ensure().client
    first, accessor = nightly_credentials(operator)
    other, _ = nightly_credentials(operator)
    provision(admin)
    role = "project-bucket-measurements"
    operator.unwrap(operator.wrapped_secret_id(role, 60))
    assert Reading(operator).secret_ids(DRIFT) == (), "that has no end"
    (end,) = Reading(operator).secret_ids(role)
    assert timedelta(days=29) < end - datetime.now(UTC) < timedelta(days=31)
    assert list(compare_secret_ids({role: [end]}, end - timedelta(days=8))) == []
    (one,) = compare_secret_ids({role: [end]}, end - timedelta(days=3))
    assert (one.id, one.kind) == (f"secret-id/{role}", Kind.EXPIRING)
    # One machine's login is taken back, and another's goes on; what is gone already is no fault.
    assert operator.withdraw_secret_id(DRIFT, accessor)
    assert not operator.withdraw_secret_id(DRIFT, accessor)
    with pytest.raises(UserError):
        bench.server.vault().login_approle(first.role_id, first.secret_id)
    bench.server.vault().login_approle(other.role_id, other.secret_id)
    assert operator.withdraw_secret_ids(DRIFT) == 1


def test_in_a_lab_with_services_the_nightly_login_opens_the_providers(bench: Any) -> None:
    """Terraform sees containers through labctl's provider alone."""
    settings = {"name": "datalab", "target": {"sandbox": {"guests": "container"}}, "services": {"kafka": {}}}
    operator = bench.ensure(lab=Lab.model_validate(settings)).client
    operator.write("platform/ssh", {"private_key": Secret("key")}, cas=0)
    night = nightly(bench, operator)
    session = SimpleNamespace(vault=night)
    login = provider_login(session)  # type: ignore[arg-type]
    assert login is not None
    assert login.lookup_self().policies == ("default", "provider")
    assert provider_access(session, login, SimpleNamespace(known_hosts="", authority=""))["VAULT_ADDR"] == bench.server.url  # type: ignore[arg-type]
    with pytest.raises(Denied):
        night.read("services/postgres")
