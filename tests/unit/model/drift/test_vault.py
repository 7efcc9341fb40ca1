"""The Vault against the catalogue, where that needs no Vault."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from labctl.model.catalogue import DRIFT, OPERATOR
from labctl.model.drift import Kind, Severity
from labctl.model.drift.applied import as_applied
from labctl.model.drift.vault import (
    FoundSecret,
    Mount,
    compare_audit,
    compare_expiry,
    compare_logins,
    compare_mounts,
    compare_policies,
    compare_secrets,
    declared,
)
from labctl.model.lab import Lab
from labctl.model.vaultroles import policies


def lab(**more: Any) -> Lab:
    return Lab.model_validate({"name": "datalab", "target": {"sandbox": {"guests": "container"}}, **more})


LAB = lab()
DECLARED = declared(LAB)
SECRETS = tuple(FoundSecret(path, 1, frozenset(spec.fields), alive=1) for path, spec in DECLARED.secrets.items())


def without(path: str) -> tuple[FoundSecret, ...]:
    return tuple(one for one in SECRETS if one.path != path)


@pytest.mark.parametrize("path", DECLARED.secrets)
def test_each_secret_that_is_gone_is_told(path: str) -> None:
    (found,), notes = compare_secrets(DECLARED, DECLARED, without(path), gitlab=True)
    assert (found.id, found.kind, found.severity, notes) == (f"secret/{path}", Kind.MISSING, Severity.HIGH, ())


def test_what_gitlab_issues_is_not_missed_before_there_is_one() -> None:
    assert compare_secrets(DECLARED, DECLARED, without("gitlab/runner"), gitlab=False) == ((), ())
    assert len(compare_secrets(DECLARED, DECLARED, without("gitlab/root"), gitlab=False)[0]) == 1


def test_a_service_that_is_new_is_pending_and_one_that_is_off_leaves_a_note() -> None:
    now = lab(services={"postgres": {}, "mlflow": {}})
    applied = as_applied(now, {"foundation": {"buckets": list(LAB.foundation.store.buckets)}})
    assert applied.service_specs() == ()
    findings, _notes = compare_secrets(declared(applied), declared(now), SECRETS, gitlab=True)
    assert {one.id for one in findings} == {"secret/services/postgres", "secret/services/mlflow", "secret/labctl/content"}
    assert {one.kind for one in findings} == {Kind.PENDING}

    left = (*SECRETS, FoundSecret("services/postgres", 1, frozenset({"password"}), alive=1))
    findings, notes = compare_secrets(DECLARED, DECLARED, left, gitlab=True)
    assert (findings, notes) == ((), ("secret services/postgres is left from what the lab has no longer",))


def test_a_service_that_runs_though_lab_yaml_forgot_it_still_has_its_secrets() -> None:
    outputs = {"foundation": {"buckets": list(LAB.foundation.store.buckets)}, "services": {"endpoints": {"postgres": {}}}}
    applied = declared(as_applied(LAB, outputs))
    assert {"services/postgres", "labctl/content"} <= applied.secrets.keys()
    (first, second), _notes = compare_secrets(applied, DECLARED, SECRETS, gitlab=True)
    assert (first.kind, second.kind) == (Kind.MISSING, Kind.MISSING)


def test_policies_of_lab_yaml_and_of_the_world_are_told_apart() -> None:
    """Upstream pending and drifted at the same time."""
    now = lab(foundation={"store": {"buckets": [*LAB.foundation.store.buckets, "extra"]}})
    found: dict[str, str | None] = {**policies(LAB), "guest-gitlab": 'path "*" { capabilities = ["sudo"] }', "default": None}
    told = {one.id: one.kind for one in compare_policies(DECLARED, declared(now), found)}
    assert told == {"policy/guest-store": Kind.PENDING, "policy/guest-gitlab": Kind.CHANGED}


def test_what_a_newer_labctl_wants_is_pending() -> None:
    found: dict[str, str | None] = {**policies(LAB)}
    del found[DRIFT]
    found[OPERATOR] = str(found[OPERATOR]).replace('"lab/subkeys/*"', '"lab/data/*"')
    told = {one.id: one.kind for one in compare_policies(DECLARED, DECLARED, found)}
    assert told == {"policy/drift": Kind.PENDING, "policy/labctl": Kind.PENDING}
    found[OPERATOR] = str(found[OPERATOR]).replace('"sys/audit"', '"sys/*"')
    assert [one.severity for one in compare_policies(DECLARED, DECLARED, found) if one.id == "policy/labctl"] == [Severity.HIGH]


def test_a_guest_that_may_do_less_works_differently() -> None:
    found: dict[str, str | None] = {**policies(LAB), "guest-docker": '{"path": {}}'}
    (one,) = compare_policies(DECLARED, DECLARED, found)
    assert (one.id, one.kind, one.severity) == ("policy/guest-docker", Kind.CHANGED, Severity.MEDIUM)
    assert [(change.path, change.before, change.after) for change in one.changes] == [("lab/data/store/mlflow", "read", None)]


OWN = {"lab/": Mount("kv", "2"), "sys/": Mount("system"), "identity/": Mount("identity"), "cubbyhole/": Mount("cubbyhole")}
SET = {"cas_required": True, "max_versions": 10}


@pytest.mark.parametrize(
    ("mounts", "settings", "expected"),
    [
        (OWN, SET, []),
        (OWN, None, []),
        ({**OWN, "lab/": Mount("kv", "1")}, SET, [("mount/lab/", Severity.HIGH)]),
        ({name: one for name, one in OWN.items() if name != "lab/"}, None, [("mount/lab/", Severity.HIGH)]),
        (OWN, {**SET, "cas_required": False}, [("mount/lab/", Severity.HIGH)]),
        ({**OWN, "pki/": Mount("pki")}, SET, [("mount/pki/", Severity.LOW)]),
    ],
)
def test_mounts(mounts: dict[str, Mount], settings: dict[str, Any] | None, expected: list[tuple[str, Severity]]) -> None:
    assert [(one.id, one.severity) for one in compare_mounts(mounts, settings)] == expected


def test_ways_in_and_what_is_written_down() -> None:
    assert list(compare_logins({"approle/": Mount("approle"), "token/": Mount("token")})) == []
    (gone,) = compare_logins({"token/": Mount("token")})
    assert (gone.id, gone.kind, gone.severity) == ("login/approle/", Kind.MISSING, Severity.HIGH)
    assert list(compare_audit(["main/"])) == []
    assert [one.severity for one in compare_audit([])] == [Severity.HIGH]


@pytest.mark.parametrize(
    ("guest", "days", "severity", "words"),
    [
        ("vault", 22, None, ""),
        ("vault", 20, Severity.MEDIUM, "ends in 20 days. `labctl up` renews it."),
        ("store", -1, Severity.HIGH, "has expired"),
        ("", 300, None, ""),
        ("", 10, Severity.HIGH, "authority"),
    ],
)
def test_certificates_that_end(guest: str, days: int, severity: Severity | None, words: str) -> None:
    found = list(compare_expiry({guest: timedelta(days=days)}))
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all(words in one.text and one.kind is Kind.EXPIRING for one in found)
