"""Verdicts on facts, and the error that stops a run."""

from __future__ import annotations

import pytest

from labctl.model.inventory import Datastore, GuestEntry, Node, Release
from labctl.model.preflight import checks, refusal
from labctl.model.privileges import Permissions

from .conftest import GIB

DIR = frozenset({"iso", "snippets", "import"})
LVM = frozenset({"images", "rootdir"})


def store(name="local", kind="dir", content=DIR, total=100, free=50, active=True):
    return Datastore(name, kind, content, total * GIB, free * GIB, active)


def stores(local=None, lvm=None):
    return tuple(s for s in (local or store(), lvm or store("local-lvm", "lvmthin", LVM, 2000, 1900)) if s.name != "absent")


ABSENT = store("absent")

CASES = [
    ({}, "release", "ok", "9.0.10", ""),
    ({"release": Release("7.4-3")}, "release", "fail", "needs 8 or later", "pve7to8"),
    ({"release": Release("8.4.1")}, "release", "warn", "made for 9", ""),
    ({"release": Release("10.1")}, "release", "warn", "made for 9", ""),
    ({}, "node", "ok", "online", ""),
    ({"nodes": (Node("pve", False),)}, "node", "fail", "offline", "target.proxmox.node"),
    ({"nodes": (Node("pve1", True),)}, "node", "fail", "Did you mean 'pve1'?", "target.proxmox.node"),
    ({"nodes": ()}, "node", "fail", "Known: none.", "target.proxmox.node"),
    ({}, "datastore.local", "ok", "allows import, snippets", ""),
    ({}, "datastore.local-lvm", "ok", "lvmthin", ""),
    ({"datastores": stores(local=store(content=frozenset({"iso", "import"})))}, "datastore.local", "fail",
     "does not allow content snippets; it allows import, iso", "pvesm set local --content import,iso,snippets"),
    ({"datastores": stores(local=store(content=frozenset({"iso", "snippets"})))}, "datastore.local", "fail",
     "does not allow content import", "pvesm set local --content import,iso,snippets"),
    ({"datastores": stores(local=store(content=frozenset()))}, "datastore.local", "fail", "it allows nothing",
     "pvesm set local --content import,snippets"),
    ({"datastores": stores(lvm=store("local-lvm", "lvmthin", frozenset({"rootdir"})))}, "datastore.local-lvm", "fail",
     "does not allow content images", "pvesm set local-lvm --content images,rootdir"),
    ({"datastores": stores(local=store(active=False))}, "datastore.local", "fail", "disabled or not active", "pvesm status"),
    ({"datastores": stores(local=ABSENT)}, "datastore.local", "fail", "or the token may not see it. Did you mean 'local-lvm'?",
     "target.proxmox.datastores.snippets, datastores.images"),
    ({}, "bridge", "ok", "is on node 'pve'", ""),
    ({"bridges": ("vmbr1",)}, "bridge", "fail", "Did you mean 'vmbr1'?", "network.bridge"),
    ({}, "vmid.201", "ok", "free", ""),
    ({"guests": (GuestEntry(201, "nas", "pve2", "qemu", "running"),)}, "vmid.201", "fail",
     "VMID 201, wanted for 'gitlab', is taken by VM 'nas' on node 'pve2'", "another vmid"),
    ({"taken": frozenset({101})}, "vmid.101", "fail", "may not see", "another vmid"),
    ({"guests": (GuestEntry(201, "gitlab", "pve", "qemu", "running", tags=("datalab", "labctl", "role-gitlab")),)}, "vmid.201",
     "fail", "carries this lab's tags, but the lab's state does not know it", "bring the lab's state back"),
    ({"guests": (GuestEntry(201, "gitlab", "pve", "qemu", "running", tags=("labctl", "otherlab")),)}, "vmid.201", "fail",
     "is taken by VM 'gitlab'", "another vmid"),
    ({}, "clock", "ok", "agrees", ""),
    ({"clock_skew_s": -42.0}, "clock", "warn", "is 42 s behind", "chrony"),
    ({"clock_skew_s": 301.0}, "clock", "fail", "is 301 s ahead of", "chrony"),
    ({"clock_skew_s": None}, "clock", "warn", "could not be read", ""),
    ({}, "firewall", "ok", "is on", ""),
    ({"firewall_enabled": False}, "firewall", "warn", "not enforced", "pvesh set /cluster/firewall/options --enable 1"),
    ({"firewall_enabled": None}, "firewall", "warn", "could not be read", ""),
    ({}, "space.disks.local-lvm", "ok", "1900 GiB free, new disks take up to 820 GiB", ""),
    ({"datastores": stores(lvm=store("local-lvm", "lvmthin", LVM, 2000, 819))}, "space.disks.local-lvm", "warn",
     "819 GiB free, new disks may grow to 820 GiB", "disk_gib"),
    ({"datastores": stores(lvm=store("local-lvm", "lvm", LVM, 2000, 819))}, "space.disks.local-lvm", "fail",
     "819 GiB free, new disks take 820 GiB", "disk_gib"),
    ({"datastores": stores(lvm=store("local-lvm", "lvmthin", LVM, 0, 0))}, "space.disks.local-lvm", "warn", "does not say", ""),
    ({"datastores": stores(local=store(free=1))}, "space.images.local", "warn", "1.0 GiB free", "pvesm list local"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}-{case[2]}")
def test_verdicts(lab, make_facts, case):
    changes, identifier, verdict, detail, remedy = case
    (check,) = (one for one in checks(make_facts(lab, **changes), lab) if one.id == identifier)
    assert check.verdict == verdict
    assert detail in check.detail
    assert remedy in check.remedy
    assert bool(check.remedy) is bool(remedy)


def test_a_good_hypervisor_has_no_complaint(lab, make_facts):
    found = checks(make_facts(lab), lab)
    assert {check.verdict for check in found} == {"ok"}
    assert refusal(found) is None
    assert len({check.id for check in found}) == len(found)


def test_warnings_do_not_stop_a_run(lab, make_facts):
    found = checks(make_facts(lab, firewall_enabled=False, clock_skew_s=20.0), lab)
    assert [check.id for check in found if check.verdict == "warn"] == ["clock", "firewall"]
    assert refusal(found) is None


def test_our_own_guests_are_no_strangers_and_need_no_new_space(lab, make_facts):
    ours = (101, 102, 201, 202)
    facts = make_facts(
        lab,
        guests=tuple(GuestEntry(vmid, "x", "pve", "qemu", "running") for vmid in ours),
        taken=frozenset(ours),
        datastores=stores(lvm=store("local-lvm", "lvm", LVM, 2000, 1)),
    )
    found = {check.id: check for check in checks(facts, lab, state_vmids=ours)}
    assert {found[f"vmid.{vmid}"].detail for vmid in ours} == {"is the lab's own"}
    assert found["space.disks.local-lvm"].verdict == "ok"


def test_every_right_is_told_one_by_one(lab, make_facts):
    found = [check for check in checks(make_facts(lab, permissions=Permissions({})), lab) if check.id.startswith("right.")]
    assert len(found) > 18
    advisory = [check.title for check in found if check.verdict == "warn"]
    assert advisory == ["Sys.Audit on /", "Sys.Audit on /nodes/pve", "Datastore.Audit on /storage/local-lvm"]
    (agent,) = (check for check in found if "GuestAgent" in check.id)
    assert agent.title == "VM.GuestAgent.Unrestricted on /vms"
    assert "pveum acl modify /vms --users labctl@pve --tokens 'labctl@pve!labctl' --roles LabctlGuests" in agent.remedy
    assert "VM.GuestAgent.Unrestricted" in agent.remedy.split(";")[0]


def test_the_refusal_names_all_missing_rights(lab, make_facts):
    permissions = make_facts(lab).permissions
    entries = {path: dict(held) for path, held in permissions.entries.items()}
    del entries["/vms"]["VM.Config.Disk"], entries["/sdn/zones/localnetwork/vmbr0"]
    error = refusal(checks(make_facts(lab, permissions=Permissions(entries), bridges=()), lab))
    assert error is not None
    assert (
        error.message
        == "the API token has too few rights; missing: VM.Config.Disk on /vms; SDN.Use on /sdn/zones/localnetwork/vmbr0"
    )
    assert "--roles LabctlBridge" in error.hint
    assert "labctl doctor" in error.hint


def test_the_refusal_tells_the_first_failure(lab, make_facts):
    error = refusal(checks(make_facts(lab, nodes=(), bridges=()), lab))
    assert error is not None
    assert error.where == "node pve"
    assert "target.proxmox.node" in error.hint


def test_a_sandbox_lab_can_be_checked_too(make_facts, lab):
    from labctl.model.labfile import parse_lab

    sandbox = parse_lab("name: datalab\ntarget: {sandbox: {}}\n")
    assert refusal(checks(make_facts(sandbox), sandbox)) is None
