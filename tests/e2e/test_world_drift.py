"""Vault, store and guests of a whole lab, held against what is described."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from labctl.adapters.vault import Vault
from labctl.engine.drift.vault import nightly_credentials
from labctl.engine.session import open_session
from labctl.model.drift import AreaDrift, Kind, Severity
from tests.e2e.canary_life import store
from tests.e2e.labfolder import LabFolder
from tests.e2e.world import looked, opened

VMIDS = {"store": 101, "vault": 102, "gitlab": 201, "docker": 202}


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[], LabFolder]) -> LabFolder:
    """A lab that is up, and is changed by hand here."""
    made = make_lab()
    made.ok("up", "--yes")
    return made


def told(areas: dict[str, AreaDrift]) -> dict[str, tuple[Kind, Severity]]:
    return {one.id: (one.kind, one.severity) for area in areas.values() for one in area.findings}


def agent(lab: LabFolder, guest: str) -> Any:
    return lab.hypervisor().nodes("pve").qemu(VMIDS[guest]).agent


def test_a_lab_that_is_up_is_clean_after_restarts_too(lab: LabFolder) -> None:
    agent(lab, "docker").exec.post(command=["systemctl", "restart", "lab-identity.service"])
    lab.ok("up", "--yes")
    areas = looked(lab)
    assert told(areas) == {}
    assert [area.problems for area in areas.values()] == [()] * 4
    assert {name: area.notes for name, area in areas.items() if area.notes} == {}
    assert areas["docker"].looked == 0, "appliances run no containers"
    assert areas["vault"].looked > 25
    assert areas["guests"].looked > 8
    assert areas["store"].looked >= 5


def test_the_nightly_login_sees_the_same(lab: LabFolder) -> None:
    with opened(lab) as run:
        assert run.session is not None
        operator = run.session.vault
        given, _ = nightly_credentials(operator)
        night = Vault(operator.address, run.paths.authority).login_approle(given.role_id, given.secret_id)
        run.session = open_session(run.lab, run.paths, night, run.outputs("foundation"))
        from labctl.engine.drift import guests, vault
        from labctl.engine.drift import store as object_store

        areas = {"vault": vault.look(run), "store": object_store.look(run), "guests": guests.look(run)}
        operator.revoke_self()
    assert told(areas) == {}
    assert [area.problems for area in areas.values()] == [()] * 3
    assert "only bucket terraform" in areas["store"].notes[0]


def test_what_was_changed_by_hand_is_named_in_each_area(lab: LabFolder) -> None:
    with opened(lab) as run:
        assert run.session is not None
        vault = run.session.vault
        vault.client.sys.create_or_update_acl_policy("guest-docker", 'path "lab/data/*" { capabilities = ["read"] }')
    store(lab).put_bucket_versioning(Bucket="terraform", VersioningConfiguration={"Status": "Suspended"})
    hosts = agent(lab, "docker")("file-read").get(file="/etc/lab/vault.env")["content"]
    agent(lab, "docker")("file-write").post(file="/etc/lab/vault.env", content=hosts + "# by hand\n")
    agent(lab, "docker").exec.post(command=["systemctl", "stop", "lab-identity.service"])
    areas = looked(lab)
    assert told(areas) == {
        "policy/guest-docker": (Kind.CHANGED, Severity.HIGH),
        "bucket/terraform": (Kind.CHANGED, Severity.HIGH),
        "docker/file/etc/lab/vault.env": (Kind.CHANGED, Severity.MEDIUM),
        "docker/unit/lab-identity.service": (Kind.CHANGED, Severity.MEDIUM),
    }
    assert [area.problems for area in areas.values()] == [()] * 4
    agent(lab, "docker")("file-write").post(file="/etc/lab/vault.env", content=hosts)
    lab.ok("up", "--yes")
    assert told(looked(lab)) == {}


def test_a_guest_that_cannot_be_looked_into_is_told_and_keeps_no_other_from_it(lab: LabFolder) -> None:
    with lab.fault(path=r"/qemu/201/agent/", status=500, message="QEMU guest agent is not running", times=0):
        silent = looked(lab, "guests")["guests"]
    (problem,) = silent.problems
    assert problem.startswith("guest gitlab: it runs, but its agent does not answer. ")
    assert silent.verdict == "error"
    assert silent.looked > 5

    docker = lab.hypervisor().nodes("pve").qemu(VMIDS["docker"])
    docker.status.stop.post()
    limit = time.monotonic() + 30
    while docker.status.current.get()["status"] != "stopped":
        assert time.monotonic() < limit
        time.sleep(0.1)
    off = looked(lab, "guests")["guests"]
    assert off.notes == ("guest docker is stopped: it was not looked into",)
    assert (off.findings, off.problems) == ((), ())
    assert off.looked > 5
