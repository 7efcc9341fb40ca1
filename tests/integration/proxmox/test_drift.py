"""The hypervisor against the lab: each seeded change named right, each harmless one clean, what the token may not see said."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.adapters.proxmox import Proxmox
from labctl.adapters.proxmox.inventory import take_inventory
from labctl.model.drift import Kind, Severity, Verdict
from labctl.model.drift.proxmox import Written
from labctl.model.secret import Secret
from labctl.sandbox import supervisor

from .conftest import Pve
from .driftcases import HARMLESS, SEEDED, Harmless, Seeded
from .driftlab import AUDITOR, DriftLab, make, remake

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("proxmox")]
OTHERS = ("labctl@pve!labctl-old", "labctl-ci@pve!job", "intern@pve!laptop")


@pytest.fixture(scope="module")
def made(pve: Pve) -> DriftLab:
    one = make(pve)
    known = {user["userid"] for user in pve.call("GET", "access/users")}
    for name in OTHERS:
        user, _, token = name.partition("!")
        if user not in known:
            pve.call("POST", "access/users", userid=user)
        pve.call("POST", f"access/users/{user}/token/{token}")
    one.made = one.snapshot()
    return one


@pytest.fixture
def drift(made: DriftLab) -> Iterator[DriftLab]:
    """The lab, as declared; put back at the end."""
    states = copy.deepcopy(made.states)
    yield made
    supervisor.control(made.pve.home, "DELETE", "faults")
    made.states = states
    now = made.snapshot()
    for name in (*OTHERS, AUDITOR):
        user, _, token = name.partition("!")
        if now["users"][user] != made.made["users"][user]:
            made.do("PUT", f"access/users/{user}", enable=1, expire=0)
        if now["tokens"][name] != made.made["tokens"][name]:
            made.do("PUT", f"access/users/{user}/token/{token}", expire=0)
    for grant in now["acl"]:
        if grant["ugid"] == "intern@pve":
            made.do("PUT", "access/acl", path=grant["path"], users="intern@pve", roles=grant["roleid"], delete=1)
    if "LabctlPool" in now["roles"]:
        made.do("DELETE", "access/roles/LabctlPool")
    remake(made)


@pytest.mark.parametrize("case", SEEDED, ids=lambda case: case.title)
def test_a_change_is_named(drift: DriftLab, case: Seeded) -> None:
    case.change(drift)
    found = drift.look()
    assert found.problems == ()
    (one,) = [finding for finding in found.findings if finding.id == case.id]
    assert (one.kind, one.severity) == (case.kind, case.severity), one
    assert [change.path for change in one.changes] == [case.attribute] * bool(case.attribute)
    # A guest that went, or whose VMID somebody else has, is one change with two ends.
    rest = {finding.id for finding in found.findings} - {case.id}
    assert rest <= {"proxmox_virtual_environment_vm.gitlab"} if "VMID" in case.title else not rest, found.findings


@pytest.mark.parametrize("case", HARMLESS, ids=lambda case: case.title)
def test_what_is_harmless_stays_clean(drift: DriftLab, case: Harmless) -> None:
    case.change(drift)
    found = drift.look()
    assert (found.findings, found.problems) == ((), ())
    assert found.verdict is Verdict.CLEAN
    assert [case.note in note for note in found.notes] == [True] * bool(case.note), found.notes
    assert found.looked > 20


def test_guests_of_others_are_findings_where_that_is_wanted(drift: DriftLab) -> None:
    drift.do("POST", "nodes/pve/qemu", vmid=105, name="nas", memory=512)
    found = drift.look(unmanaged="all")
    assert [(one.kind, one.id, one.severity) for one in found.findings] == [(Kind.UNMANAGED, "qemu/105", Severity.LOW)]
    assert found.notes == ()


def test_only_reads_are_sent(drift: DriftLab) -> None:
    supervisor.control(drift.pve.home, "POST", "recording", {"name": "inventory"})
    before = supervisor.control(drift.pve.home, "GET", "state")
    drift.look()
    file = Path(supervisor.control(drift.pve.home, "DELETE", "recording")["file"])
    assert {json.loads(line)["method"] for line in file.read_text().splitlines()} == {"GET"}
    assert supervisor.control(drift.pve.home, "GET", "state") == before
    assert supervisor.control(drift.pve.home, "GET", "unserved") == []


def test_guests_on_a_node_that_is_off_are_unknown_not_missing(drift: DriftLab) -> None:
    drift.control("POST", "nodes/pve2", online=True)
    for vmid in (201, 202):
        drift.control("POST", f"guests/{vmid}/node", node="pve2")
    for row in (drift.states["platform"].document or {})["resources"]:
        row["instances"][0]["attributes"]["node_name"] = "pve2"
    assert drift.look().verdict is Verdict.CLEAN
    drift.control("POST", "nodes/pve2", online=False)
    found = drift.look()
    assert found.findings == ()
    (problem,) = found.problems
    assert problem.startswith("node pve2 is offline: nothing is known of docker, gitlab")
    assert found.verdict is Verdict.ERROR


def test_without_a_state_guests_are_known_by_lab_yaml_and_their_tags(drift: DriftLab) -> None:
    drift.states["platform"] = Written("platform", "platform", readable=False)
    assert drift.look().findings == ()
    drift.delete(201)
    found = drift.look()
    assert found.findings == ()
    (problem,) = found.problems
    assert problem.startswith("whether gitlab was deleted or never made is unknown")


def test_what_lab_yaml_wants_and_was_never_made_is_no_drift(drift: DriftLab) -> None:
    drift.states["platform"] = Written("platform", "platform")
    drift.delete(201)
    drift.delete(202)
    for end in ("vga", "audio"):
        drift.do("DELETE", f"cluster/mapping/pci/driftlab-gpu-{end}")
    for name in ("gitlab", "docker"):
        drift.do("DELETE", f"nodes/pve/storage/local/content/local:snippets/driftlab-{name}-user-data.yaml")
    assert drift.look().verdict is Verdict.CLEAN


@pytest.mark.parametrize("role", ["PVEAuditor", "PVETemplateUser"])
def test_what_the_token_may_not_see_is_said(drift: DriftLab, role: str) -> None:
    pve, user = drift.pve, f"labctl-{role.lower()}@pve"
    token_id, value = f"{user}!look", pve.token(user)
    made = pve.call("POST", f"access/users/{user}/token/look", privsep=0)
    assert made["value"] != value.reveal()
    pve.call("PUT", "access/acl", path="/", users=user, roles=role)
    found = drift.look(client=pve.client(token_id, Secret(made["value"])), token_id=token_id)
    hidden = {one.id for one in found.findings if one.kind is Kind.HIDDEN}
    assert not [one for one in found.findings if one.kind is Kind.MISSING]
    assert {one.kind for one in found.findings} == {Kind.HIDDEN}
    if role == "PVEAuditor":
        assert hidden == {"hidden/storage/local/snippets", "hidden/storage/local-lvm/images"}
        assert found.problems == ()
    else:
        assert {"hidden/access", "proxmox_virtual_environment_pool.lab"} <= hidden
        text = " ".join(found.problems)
        for named in ("Datastore.Audit or Datastore.AllocateSpace on /storage/local", "Sys.Audit on /"):
            assert named in text, found.problems


def test_a_guest_that_is_hidden_is_not_missing(drift: DriftLab) -> None:
    pve = drift.pve
    for subject in ({"users": "labctl-drift@pve"}, {"tokens": AUDITOR}):
        pve.call("PUT", "access/acl", path="/vms/201", roles="NoAccess", **subject)
    try:
        found = drift.look()
        (one,) = found.findings
        assert (one.kind, one.id, one.guest) == (Kind.HIDDEN, "proxmox_virtual_environment_vm.gitlab", "gitlab")
        assert "lacks VM.Audit on /vms/201" in one.text
    finally:
        for subject in ({"users": "labctl-drift@pve"}, {"tokens": AUDITOR}):
            pve.call("PUT", "access/acl", path="/vms/201", roles="NoAccess", delete=1, **subject)


FAULTS = [
    ({"path": "/storage/local-lvm/content", "body": "<html>Sign in</html>", "status": 200},
     "datastore local-lvm", "target.proxmox"),
    ({"path": "/access/users", "status": 403, "message": "Permission check failed (/access/groups, Sys.Audit)"},
     "the list of users", "docs/proxmox.md"),
    ({"path": "/qemu/201/pending", "status": 500, "message": "got timeout"}, "the configuration of gitlab", "journalctl"),
    ({"path": "/cluster/mapping/pci", "delay_s": 4}, "the PCI mappings", "systemctl status pvedaemon"),
    ({"path": "/storage/local/content", "drop": "before"}, "datastore local", "Try again"),
    ({"path": "/cluster/resources", "status": 595, "message": "Connection refused"}, "the list of guests", "pvecm status"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "what", "remedy"), FAULTS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_read_that_fails_is_a_sentence_and_hides_nothing_else(drift: DriftLab, fault, what, remedy) -> None:
    drift.put("snippets", "driftlab-old-user-data.yaml")
    drift.do("PUT", "cluster/firewall/options", enable=0)
    drift.pve.fault(times=0, **fault)
    info = drift.pve.info
    found = drift.look(client=Proxmox.connect(info.endpoint, AUDITOR, drift.token, info.ca_file, timeout_s=2))
    assert [problem for problem in found.problems if problem.startswith(what) and remedy in problem], found.problems
    assert "firewall/datacenter" in {one.id for one in found.findings}
    assert not [one for one in found.findings if one.kind is Kind.MISSING]
    assert found.verdict is Verdict.ERROR


@pytest.mark.parametrize("fault", [{"path": ".", "body": "<html>502</html>", "status": 502}, {"path": ".", "drop": "before"}])
def test_an_api_that_does_not_answer_is_asked_no_further(drift: DriftLab, fault) -> None:
    drift.pve.fault(times=0, **fault)
    with drift.pve.client(AUDITOR, drift.token) as client:
        seen = take_inventory(client, drift.declared())
    assert len(seen.problems) == 2
    assert "not looked at" in seen.problems[-1]
