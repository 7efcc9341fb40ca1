"""The object store's drift against a real SeaweedFS: what was changed by hand is named, and what is harmless is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.adapters.objectstore import Credentials
from labctl.adapters.vault import Denied
from labctl.engine.drift.store import look
from labctl.engine.session import LabSession
from labctl.model.catalogue import STORE_ROOT
from labctl.model.drift import AreaDrift, Kind, Severity
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.state import lock_key
from tests.integration.test_objectstore_seaweed import ENDPOINT, REGION, Store, store  # noqa: F401 - a fixture

pytestmark = pytest.mark.integration

BUCKETS = ["terraform", "gitlab"]


@dataclass
class KeptKeys:
    """A Vault that keeps the administrator's key pair, for those who may read it."""

    root: Credentials | None
    provisioned: dict[str, bool] = field(default_factory=dict)

    def read(self, path: str) -> tuple[int, dict[str, Any]]:
        assert path == STORE_ROOT
        if self.root is None:
            raise Denied("permission denied")
        return 1, {"access_key": self.root.access_key, "secret_key": self.root.secret_key}

    def list_secrets(self, folder: str) -> tuple[Any, ...]:
        return tuple(SimpleNamespace(path=f"{folder}{name}", deleted=gone) for name, gone in self.provisioned.items())


def looked(
    store: Store,  # noqa: F811
    *,
    wanted: list[str] | None = None,
    root: bool = True,
    provisioned: dict[str, bool] | None = None,
) -> AreaDrift:
    state = store.buckets["terraform"]
    vault = KeptKeys(store.root if root else None, provisioned or {})
    session = LabSession(vault, ENDPOINT, REGION, state.access_key, state.secret_key, store.ca_file)  # type: ignore[arg-type]
    buckets = wanted or BUCKETS
    lab = Lab.model_validate({"name": "datalab", "target": {"sandbox": {}}, "foundation": {"store": {"buckets": buckets}}})
    deployed = SimpleNamespace(deployed=True, outputs={"buckets": BUCKETS})
    stacks = (
        SimpleNamespace(name="foundation", layer="foundation", state=deployed),
        SimpleNamespace(name="platform", layer="platform", state=deployed),
    )
    run = SimpleNamespace(lab=lab, stacks=stacks, session=session, session_problem=None, outputs=lambda _stack: deployed.outputs)
    return look(run)  # type: ignore[arg-type]


def raw(store: Store) -> Any:  # noqa: F811
    return store.as_root()._client


PUBLIC = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::gitlab/*"]}],
}
RULE = {"Rules": [{"ID": "gone-soon", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}]}
Change = Callable[[Any], Any]

SEEDED: dict[str, tuple[Change, Change, str, Kind, Severity, str]] = {
    "versioning off": (
        lambda s3: s3.put_bucket_versioning(Bucket="terraform", VersioningConfiguration={"Status": "Suspended"}),
        lambda s3: s3.put_bucket_versioning(Bucket="terraform", VersioningConfiguration={"Status": "Enabled"}),
        "bucket/terraform", Kind.CHANGED, Severity.HIGH, "keeps no old versions",
    ),
    "a public policy": (
        lambda s3: s3.put_bucket_policy(Bucket="gitlab", Policy=json.dumps(PUBLIC)),
        lambda s3: s3.delete_bucket_policy(Bucket="gitlab"),
        "bucket/gitlab", Kind.CHANGED, Severity.HIGH, "lets everybody in",
    ),
    "a public access list": (
        lambda s3: s3.put_bucket_acl(Bucket="gitlab", ACL="public-read"),
        lambda s3: s3.put_bucket_acl(Bucket="gitlab", ACL="private"),
        "bucket/gitlab", Kind.CHANGED, Severity.HIGH, "AllUsers: READ",
    ),
    "states that the store deletes": (
        lambda s3: s3.put_bucket_lifecycle_configuration(Bucket="terraform", LifecycleConfiguration=RULE),
        lambda s3: s3.delete_bucket_lifecycle(Bucket="terraform"),
        "bucket/terraform", Kind.CHANGED, Severity.HIGH, "gone-soon",
    ),
    "a foreign bucket": (
        lambda s3: s3.create_bucket(Bucket="elsewhere"),
        lambda s3: s3.delete_bucket(Bucket="elsewhere"),
        "bucket/elsewhere", Kind.UNMANAGED, Severity.LOW, "nobody declared",
    ),
    "a bucket gone": (
        lambda s3: s3.delete_bucket(Bucket="gitlab"),
        lambda s3: s3.create_bucket(Bucket="gitlab"),
        "bucket/gitlab", Kind.MISSING, Severity.HIGH, "is gone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEDED)
def test_what_was_changed_by_hand_is_named(name: str, store: Store) -> None:  # noqa: F811
    change, back, id_, kind, severity, words = SEEDED[name]
    clean = looked(store)
    assert (clean.findings, clean.problems, clean.notes) == ((), (), ())
    change(raw(store))
    try:
        found = looked(store)
    finally:
        back(raw(store))
    assert found.problems == ()
    assert [(one.id, one.kind, one.severity) for one in found.findings] == [(id_, kind, severity)]
    assert words in found.findings[0].text


HARMLESS: dict[str, tuple[Change, Change]] = {
    "objects and old versions": (
        lambda s3: [
            s3.put_object(Bucket="terraform", Key="state/platform/terraform.tfstate", Body=body) for body in (b"1", b"2")
        ],
        lambda s3: s3.delete_object(Bucket="terraform", Key="state/platform/terraform.tfstate"),
    ),
    "versioning of another bucket": (
        lambda s3: s3.put_bucket_versioning(Bucket="gitlab", VersioningConfiguration={"Status": "Enabled"}),
        lambda s3: s3.put_bucket_versioning(Bucket="gitlab", VersioningConfiguration={"Status": "Suspended"}),
    ),
    "an access list written again": (
        lambda s3: s3.put_bucket_acl(Bucket="gitlab", ACL="private"),
        lambda _s3: None,
    ),
    "a rule that is off": (
        lambda s3: s3.put_bucket_lifecycle_configuration(
            Bucket="gitlab", LifecycleConfiguration={"Rules": [{**RULE["Rules"][0], "Status": "Disabled"}]}
        ),
        lambda s3: s3.delete_bucket_lifecycle(Bucket="gitlab"),
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_clean(name: str, store: Store) -> None:  # noqa: F811
    change, back = HARMLESS[name]
    change(raw(store))
    try:
        found = looked(store)
    finally:
        back(raw(store))
    assert (found.findings, found.problems, found.notes) == ((), (), ())


def test_buckets_of_projects_and_of_lab_yaml_are_nobodys_fault(store: Store) -> None:  # noqa: F811
    found = looked(store, wanted=[*BUCKETS, "soon"], provisioned={"measurements": False, "former": True})
    told = {one.id: (one.kind, one.severity) for one in found.findings}
    assert told == {
        "bucket/soon": (Kind.PENDING, Severity.LOW),
        "bucket/measurements": (Kind.MISSING, Severity.HIGH),
    }
    raw(store).create_bucket(Bucket="measurements")
    try:
        assert looked(store, provisioned={"measurements": False}).findings == ()
        assert looked(store, provisioned={"measurements": True}).findings == ()
    finally:
        raw(store).delete_bucket(Bucket="measurements")


def test_the_nightly_login_looks_at_the_states_bucket_and_says_so(store: Store) -> None:  # noqa: F811
    clean = looked(store, root=False)
    assert (clean.findings, clean.problems) == ((), ())
    assert "only bucket terraform was looked at" in clean.notes[0]
    change, back, *_rest = SEEDED["versioning off"]
    change(raw(store))
    try:
        (one,) = looked(store, root=False).findings
    finally:
        back(raw(store))
    assert (one.id, one.severity) == ("bucket/terraform", Severity.HIGH)


def test_a_lock_that_lies_about_is_a_note(store: Store) -> None:  # noqa: F811
    lock = {"ID": "1", "Operation": "OperationTypeApply", "Who": "ops@example.com", "Created": "2026-01-02T03:04:05.6Z"}
    root = store.as_root()
    root.put("terraform", lock_key("platform"), json.dumps(lock).encode())
    root.put("terraform", lock_key("data"), json.dumps({**lock, "Created": "2999-01-01T00:00:00Z"}).encode())
    try:
        found = looked(store)
    finally:
        root.delete("terraform", lock_key("platform"))
        root.delete("terraform", lock_key("data"))
    assert found.findings == ()
    (note,) = found.notes
    assert "stack platform is locked since 2026-01-02 03:04:05 UTC by ops@example.com" in note
    assert "`labctl unlock platform`" in note


def test_a_store_that_does_not_answer_is_a_problem_and_no_verdict(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("tests.integration.test_store_drift.ENDPOINT", "https://127.0.0.1:9")
    found = looked(store)
    assert found.findings == ()
    assert found.verdict == "error"
    assert "the connection failed. Is guest store running" in found.problems[0]


def test_a_vault_that_is_not_open_is_a_problem() -> None:
    deployed = SimpleNamespace(deployed=True, outputs={})
    stacks = (SimpleNamespace(name="foundation", layer="foundation", state=deployed),)
    problem = UserError("the Vault is sealed", hint="Run `labctl vault unseal --identity FILE`.")
    run = SimpleNamespace(stacks=stacks, session=None, session_problem=problem)
    assert look(run).problems == ("the object store: the Vault is sealed. Run `labctl vault unseal --identity FILE`.",)  # type: ignore[arg-type]
