"""The hypervisor against the lab: every guest in one place, and what no plan shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.drift.finding import MASK, Finding, Kind, Severity, Verdict
from labctl.model.drift.proxmox import (
    Declared,
    DeclaredGuest,
    DeclaredThing,
    Inventory,
    Origin,
    Written,
    compare,
    declared_by,
    place,
    to_ask,
)
from labctl.model.drift.proxmox.guests import MOST_ASKED
from labctl.model.drift.proxmox.settings import volume_of
from labctl.model.inventory import Account, ApiToken, Grant, GuestEntry, Node, Option, PciMapping, Release, Volume
from labctl.model.labfile import parse_lab
from labctl.model.privileges import Permissions
from labctl.model.target import Datastores

NOW = datetime(2027, 3, 1, 3, 30, tzinfo=UTC)
VM = "proxmox_virtual_environment_vm"
ALL = Permissions({"/": dict.fromkeys(("VM.Audit", "Datastore.Allocate", "Sys.Audit", "Pool.Audit", "Mapping.Audit"), True)})
VAULT = DeclaredGuest(102, "vault", "pve", Origin(f"{VM}.vault", "foundation", "foundation"), "datalab", firewall=True)
SEEN_VAULT = GuestEntry(102, "vault", "pve", "qemu", "running", pool="datalab", tags=("datalab", "labctl"))
SNIPPET = DeclaredThing("local:snippets/datalab-vault-user-data.yaml", VAULT.origin, "vault")
DECLARED = Declared("datalab", "pve", Datastores(), (VAULT,), token_id="labctl-drift@pve!nightly", firewall=True)
SEEN = Inventory(
    nodes=(Node("pve", True),),
    guests=(SEEN_VAULT,),
    firewall=True,
    permissions=ALL,
    pools=frozenset({"datalab"}),
    asked=frozenset({102, 105}),
)


def only(seen: Inventory, declared: Declared = DECLARED) -> Finding:
    found = compare(seen, declared, NOW)
    (finding,) = found.findings
    assert found.problems == ()
    assert found.verdict is Verdict.DRIFTED
    return finding


def with_options(*options: Option) -> Inventory:
    return replace(SEEN, options={102: options})


def test_a_lab_as_declared_is_clean() -> None:
    found = compare(SEEN, DECLARED, NOW)
    assert (found.findings, found.problems, found.notes, found.verdict) == ((), (), (), Verdict.CLEAN)
    assert found.looked == 1


@pytest.mark.parametrize(
    ("more", "kind", "path", "severity"),
    [
        ({"name": "old"}, Kind.CHANGED, "name", Severity.LOW),
        ({"pool": ""}, Kind.CHANGED, "pool_id", Severity.MEDIUM),
        ({"status": "stopped"}, Kind.CHANGED, "started", Severity.MEDIUM),
        ({"template": True}, Kind.CHANGED, "template", Severity.MEDIUM),
        ({"node": "pve2"}, Kind.MOVED, "node_name", Severity.MEDIUM),
    ],
)
def test_each_attribute_is_a_finding_called_as_terraform_calls_it(
    more: dict[str, Any], kind: Kind, path: str, severity: Severity
) -> None:
    one = only(replace(SEEN, guests=(replace(SEEN_VAULT, **more),)))
    assert (one.kind, one.id, one.severity, one.stack, one.guest) == (kind, f"{VM}.vault", severity, "foundation", "vault")
    assert [change.path for change in one.changes] == [path]


def test_a_guest_that_is_stopped_as_declared_is_clean() -> None:
    declared = replace(DECLARED, guests=(replace(VAULT, started=False),))
    seen = replace(SEEN, guests=(replace(SEEN_VAULT, status="stopped"),))
    assert compare(seen, declared, NOW).verdict is Verdict.CLEAN


# What has a VMID of the lab: made (True in a state, False not, None unreadable), what is seen, where it comes to.
HOLDERS = [
    (True, {}, "matched"),
    (True, {"name": "other", "pool": "", "tags": ()}, "matched"),
    (True, {"kind": "lxc"}, "strangers"),
    (False, {}, "strangers"),
    (None, {"name": "other", "pool": "", "tags": ()}, "strangers"),
    (None, {"pool": "", "tags": ()}, "matched"),
    (None, {"name": "x", "pool": "", "tags": ("datalab", "labctl")}, "matched"),
    (None, {"name": "x", "tags": ()}, "matched"),
]


@pytest.mark.parametrize(("made", "more", "where"), HOLDERS)
def test_who_has_a_vmid_of_the_lab(made: bool | None, more: dict[str, Any], where: str) -> None:
    mine = replace(VAULT, origin=replace(VAULT.origin, made=made))
    placed = place(replace(SEEN, guests=(replace(SEEN_VAULT, **more),)), replace(DECLARED, guests=(mine,)))
    assert [name for name in ("matched", "strangers", "foreign") if getattr(placed, name)] == [where]


# A declared guest under whose VMID nothing is listed.
GONE = [
    (True, {}, "missing"),
    (True, {"taken": frozenset({102})}, "hidden"),
    (True, {"asked": frozenset()}, "unknown"),
    (True, {"guests": None, "asked": frozenset()}, "unknown"),
    (True, {"nodes": (Node("pve", False),)}, "unknown"),
    (None, {}, "unknown"),
    (None, {"taken": frozenset({102})}, "hidden"),
    (False, {}, "planned"),
    (False, {"taken": frozenset({102})}, "hidden"),
]


@pytest.mark.parametrize(("made", "more", "where"), GONE)
def test_where_a_guest_is_that_is_not_listed(made: bool | None, more: dict[str, Any], where: str) -> None:
    mine = replace(VAULT, origin=replace(VAULT.origin, made=made))
    placed = place(replace(SEEN, **{"guests": (), **more}), replace(DECLARED, guests=(mine,)))
    assert [name for name in ("missing", "hidden", "unknown", "planned") if getattr(placed, name)] == [where]


VMIDS = st.integers(100, 108)
NAMES = st.sampled_from(["vault", "gitlab", "nas", ""])
ENTRIES = st.builds(
    GuestEntry,
    VMIDS,
    NAMES,
    st.sampled_from(["pve", "pve2"]),
    st.sampled_from(["qemu", "lxc"]),
    st.sampled_from(["running", "stopped", "unknown"]),
    pool=st.sampled_from(["", "datalab", "other"]),
    tags=st.sampled_from([(), ("labctl",), ("datalab", "labctl"), ("labctl", "other")]),
)
WANTED = st.builds(
    DeclaredGuest,
    VMIDS,
    NAMES,
    st.sampled_from(["pve", "pve2"]),
    st.builds(Origin, st.just("x"), st.just("s"), st.just("l"), st.sampled_from([True, False, None])),
)


@given(
    st.none() | st.lists(ENTRIES, unique_by=lambda one: one.vmid),
    st.lists(WANTED, unique_by=lambda one: one.vmid),
    st.frozensets(VMIDS),
    st.frozensets(VMIDS),
    st.booleans(),
)
def test_every_guest_ends_in_exactly_one_place(guests, wanted, taken, asked, online) -> None:
    seen = replace(
        SEEN,
        guests=None if guests is None else tuple(guests),
        taken=taken,
        asked=asked,
        nodes=(Node("pve", True), Node("pve2", online)),
    )
    declared = replace(DECLARED, guests=tuple(wanted))
    placed = place(seen, declared)
    shown = [guest for _, guest in placed.matched] + [*placed.strangers, *placed.foreign]
    assert sorted(shown, key=lambda one: one.vmid) == sorted(guests or [], key=lambda one: one.vmid)
    mine = [mine for mine, _ in placed.matched] + [*placed.missing, *placed.hidden, *placed.unknown, *placed.planned]
    assert sorted(mine, key=lambda one: one.vmid) == sorted(wanted, key=lambda one: one.vmid)
    assert all(one.vmid == guest.vmid for one, guest in placed.matched)
    # Every one of them is told: as a finding, a problem or a note; a foreign one is a finding where that is wanted.
    everything = compare(seen, declared, NOW, "all")
    for guest in (*placed.strangers, *placed.foreign):
        assert f"{guest.kind}/{guest.vmid}" in {one.id for one in everything.findings}


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({}, "strangers"),
        ({"tags": ("labctl", "other")}, "foreign"),
        ({"tags": ("labctl", "other"), "pool": "datalab"}, "strangers"),
        ({"name": "nas"}, "foreign"),
        ({"name": "nas", "tags": ("datalab", "labctl")}, "strangers"),
        ({"name": "nas", "tags": ("datalab",)}, "foreign"),
    ],
)
def test_whose_concern_a_guest_is(more: dict[str, Any], where: str) -> None:
    guest = replace(GuestEntry(300, "vault", "pve", "qemu", "running"), **more)
    placed = place(replace(SEEN, guests=(SEEN_VAULT, guest)), DECLARED)
    assert getattr(placed, where) == (guest,)


def test_foreign_guests_are_one_note() -> None:
    others = tuple(GuestEntry(300 + n, f"nas{n}", "pve", "qemu", "running") for n in range(40))
    found = compare(replace(SEEN, guests=(SEEN_VAULT, *others)), DECLARED, NOW)
    assert found.findings == ()
    (note,) = found.notes
    assert note.startswith("40 guests are somebody else's")
    assert note.endswith("and 30 more")


@pytest.mark.parametrize(
    ("option", "waits"),
    [
        (Option("memory", "512", "1024"), True),
        (Option("memory", "512", "512"), False),
        (Option("memory", "512"), False),
        (Option("hostpci0", "mapping=x", removed=True), True),
        (Option("cores", None, "4"), True),
    ],
)
def test_what_waits_for_a_restart(option: Option, waits: bool) -> None:
    found = compare(with_options(option), DECLARED, NOW)
    assert [one.id for one in found.findings] == ["qemu/102/pending"] * waits


def test_a_password_that_waits_is_not_shown() -> None:
    one = only(with_options(Option("cipassword", "old-secret", "new-secret")))
    assert (one.changes[0].before, one.changes[0].after) == (MASK, MASK)
    assert "secret" not in str(one)


@pytest.mark.parametrize(
    ("option", "volume"),
    [
        (Option("virtio0", "local-lvm:vm-102-disk-0,discard=on,size=20G"), "local-lvm:vm-102-disk-0"),
        (Option("ide2", "local-lvm:vm-102-cloudinit,media=cdrom"), "local-lvm:vm-102-cloudinit"),
        (Option("efidisk0", "local-lvm:vm-102-disk-1,efitype=4m,size=4M"), "local-lvm:vm-102-disk-1"),
        (Option("mp0", "volume=local:102/vm-102-disk-2.raw,mp=/data"), "local:102/vm-102-disk-2.raw"),
        (Option("cicustom", "user=local:snippets/datalab-vault-user-data.yaml"), "local:snippets/datalab-vault-user-data.yaml"),
        (Option("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"), ""),
        (Option("cdrom", "none,media=cdrom"), ""),
        (Option("memory", "512"), ""),
    ],
)
def test_the_volume_that_an_option_names(option: Option, volume: str) -> None:
    assert volume_of(option) == volume


DISK = Volume("local-lvm:vm-102-disk-0", "images", "raw", 1, 102)
USED = Option("virtio0", "local-lvm:vm-102-disk-0,size=20G")


@pytest.mark.parametrize(
    ("volume", "options", "found"),
    [
        (DISK, (USED,), ""),
        (DISK, (), "whose configuration does not name it"),
        (DISK, (Option("parent", "before"),), ""),
        (DISK, None, ""),
        (Volume("local-lvm:vm-102-state-before", "images", "raw", 1, 102), (USED,), ""),
        (Volume("local-lvm:vm-105-disk-0", "images", "raw", 1, 105), (USED,), "which is not there"),
        (Volume("local-lvm:vm-105-disk-0", "rootdir", "raw", 1, 105), (USED,), "which is not there"),
        (Volume("local:backup/vzdump-qemu-105-x.vma", "backup", "vma", 1, 105), (USED,), ""),
        (Volume("local-lvm:whatever", "images", "raw", 1), (USED,), ""),
    ],
)
def test_disks(volume: Volume, options: tuple[Option, ...] | None, found: str) -> None:
    seen = replace(SEEN, volumes={"local-lvm": (volume,)}, options={} if options is None else {102: options})
    findings = compare(seen, DECLARED, NOW).findings
    assert [found in one.text and one.id == f"volume/{volume.volid}" for one in findings] == [True] * bool(found)


def test_disks_of_guests_that_nobody_asked_for_are_a_problem() -> None:
    disks = tuple(Volume(f"local-lvm:vm-{vmid}-disk-0", "images", "raw", 1, vmid) for vmid in range(300, 400))
    seen = replace(SEEN, volumes={"local-lvm": disks})
    asked = to_ask(seen, DECLARED)
    assert asked == tuple(range(300, 300 + MOST_ASKED))
    found = compare(replace(seen, asked=frozenset(asked), taken=frozenset({300})), DECLARED, NOW)
    assert len(found.findings) == MOST_ASKED - 1
    (problem,) = found.problems
    assert problem.startswith("50 disks have guests that are not listed")


def test_a_hidden_snippet_is_not_missing() -> None:
    declared = replace(DECLARED, files=(SNIPPET,))
    seen = replace(SEEN, volumes={"local": (), "local-lvm": ()})
    assert only(seen, declared).kind is Kind.MISSING
    auditor = Permissions({"/": dict.fromkeys(("VM.Audit", "Datastore.Audit", "Sys.Audit"), True)})
    found = compare(replace(seen, permissions=auditor), declared, NOW).findings
    assert [(one.kind, one.id) for one in found] == [
        (Kind.HIDDEN, "hidden/storage/local-lvm/images"),
        (Kind.HIDDEN, "hidden/storage/local/snippets"),
    ]
    # A datastore that could not be read at all is a problem of the reading.
    assert compare(replace(seen, volumes={}), declared, NOW).findings == ()


@pytest.mark.parametrize(
    ("file", "made", "kind"),
    [
        ("datalab-vault-user-data.yaml", True, None),
        ("datalab-vault-user-data.yaml", None, None),
        ("datalab-vault-user-data.yaml", False, Kind.UNMANAGED),
        ("datalab-old.yaml", True, Kind.UNMANAGED),
        ("datalab-two-vault-user-data.yaml", True, None),
        ("nas.yaml", True, None),
    ],
)
def test_files_that_no_stack_has_made(file: str, made: bool | None, kind: Kind | None) -> None:
    declared = replace(DECLARED, files=(replace(SNIPPET, origin=replace(SNIPPET.origin, made=made)),))
    names = {SNIPPET.name} if made is not False else set()
    listed = tuple(Volume(name, "snippets", "snippet", 1) for name in sorted(names | {f"local:snippets/{file}"}))
    seen = replace(SEEN, volumes={"local": listed}, pools=frozenset({"datalab", "datalab-two"}))
    assert [one.kind for one in compare(seen, declared, NOW).findings] == [kind] * (kind is not None)


def test_mappings() -> None:
    origin = Origin("proxmox_hardware_mapping_pci.gpu_vga", "platform", "platform")
    declared = replace(DECLARED, mappings=(DeclaredThing("datalab-gpu-vga", origin, "docker"),))
    assert only(replace(SEEN, mappings=()), declared).kind is Kind.MISSING
    assert (
        only(
            replace(SEEN, mappings=(), permissions=Permissions({"/": {"VM.Audit": True}, "/access": {"Sys.Audit": True}})),
            declared,
        ).kind
        is Kind.HIDDEN
    )
    assert compare(replace(SEEN, mappings=None), declared, NOW).verdict is Verdict.CLEAN
    seen = replace(SEEN, mappings=(PciMapping("datalab-gpu-vga", "pci device '0000:01:00.0' not found"),))
    assert "not found" in only(seen, declared).text


DAY_S = 86400


@pytest.mark.parametrize(
    ("days", "severity"), [(-1, Severity.HIGH), (0, Severity.HIGH), (13.9, Severity.MEDIUM), (14.1, None), (None, None)]
)
@pytest.mark.parametrize("user", ["labctl-drift@pve", "labctl@pve", "owner@pam", "intern@pve", "labctlx@pve"])
def test_what_runs_out(days: float | None, severity: Severity | None, user: str) -> None:
    end = 0 if days is None else int(NOW.timestamp() + days * DAY_S)
    seen = replace(SEEN, accounts=(Account(user, expires_s=end, tokens=(ApiToken("one", end),)),))
    found = compare(seen, replace(DECLARED, token_id="owner@pam!x"), NOW).findings
    mine = user in {"labctl-drift@pve", "labctl@pve", "owner@pam"} and severity is not None
    assert [(one.id, one.kind, one.severity) for one in found] == [
        (f"token/{user}!one", Kind.EXPIRING, severity),
        (f"user/{user}", Kind.EXPIRING, severity),
    ] * mine


@pytest.mark.parametrize(
    ("grant", "bad"),
    [
        (Grant("/vms/102", "user", "intern@pve", "PVEVMAdmin"), True),
        (Grant("/vms/102", "group", "labctl", "PVEVMAdmin"), True),
        (Grant("/vms/102", "token", "labctl@pve!labctl", "LabctlGuests"), False),
        (Grant("/pool/datalab", "user", "intern@pve", "PVEVMUser"), True),
        (Grant("/vms/105", "user", "intern@pve", "PVEVMAdmin"), False),
        (Grant("/vms", "user", "intern@pve", "PVEVMAdmin"), False),
    ],
)
def test_rights_on_the_labs_guests(grant: Grant, bad: bool) -> None:
    found = compare(replace(SEEN, grants=(grant,)), DECLARED, NOW).findings
    assert [one.severity for one in found] == [Severity.HIGH] * bad


def test_the_datacenters_firewall_matters_where_it_is_enforced() -> None:
    off = replace(SEEN, firewall=False)
    assert only(off).id == "firewall/datacenter"
    on_sandbox = compare(off, replace(DECLARED, firewall=False), NOW)
    assert on_sandbox.verdict is Verdict.CLEAN
    assert len(on_sandbox.notes) == 1


def test_a_lock_is_a_note() -> None:
    found = compare(replace(SEEN, guests=(replace(SEEN_VAULT, lock="backup"),)), DECLARED, NOW)
    assert found.verdict is Verdict.CLEAN
    assert "is locked (backup)" in found.notes[0]


def test_what_is_read_out_of_states() -> None:
    lab = parse_lab("name: datalab\ntarget: {sandbox: {}}\n")
    rows = [
        (VM, "vault", {"vm_id": 102, "name": "vault", "node_name": "pve9", "pool_id": "datalab", "started": True}),
        (VM, "retired", {"vm_id": 190, "name": "retired", "node_name": "pve", "started": False, "template": True}),
        ("proxmox_virtual_environment_container", "c", {"vm_id": 191, "initialization": [{"hostname": "c1"}]}),
        ("proxmox_virtual_environment_firewall_options", "vault", {"vm_id": 102, "enabled": True}),
        ("proxmox_virtual_environment_file", "vault", {"id": "local:snippets/datalab-vault-user-data.yaml"}),
        ("proxmox_virtual_environment_pool", "lab", {"pool_id": "datalab"}),
    ]
    document = {
        "resources": [
            {"mode": "managed", "type": kind, "name": name, "instances": [{"attributes": values}]} for kind, name, values in rows
        ]
    }
    states = (Written("foundation", "foundation", document), Written("platform", "platform", readable=False))
    found = declared_by(lab, states, "labctl@pve!x", Release("9.0"))
    guests = {guest.name: guest for guest in found.guests}
    assert {name: guest.origin.made for name, guest in guests.items()} == {
        "store": False,
        "vault": True,
        "retired": True,
        "c1": True,
        "gitlab": None,
        "docker": None,
    }
    assert (guests["vault"].node, guests["vault"].firewall, guests["vault"].started) == ("pve9", True, True)
    assert (guests["retired"].template, guests["retired"].started, guests["c1"].kind) == (True, False, "lxc")
    files = {file.name.rpartition("/")[2]: (file.origin.made, file.guest) for file in found.files}
    assert files == {
        "datalab-vault-user-data.yaml": (True, "vault"),
        "datalab-store-user-data.yaml": (False, "store"),
        "datalab-gitlab-user-data.yaml": (None, "gitlab"),
        "datalab-docker-user-data.yaml": (None, "docker"),
        f"datalab-{lab.foundation.image.file_name}": (False, ""),
    }
    assert [pool.name for pool in found.pools] == ["datalab"]
    assert found.user == "labctl@pve"
    assert "LabctlPool" in found.roles


def test_more_rights_than_the_documentation_says() -> None:
    declared = replace(DECLARED, roles={"LabctlPool": frozenset({"Pool.Audit"}), "LabctlNode": frozenset({"Sys.Audit"})})
    roles = {"LabctlPool": frozenset({"Pool.Audit", "Sys.Modify"}), "Other": frozenset({"Sys.Modify"})}
    one = only(replace(SEEN, roles=roles), declared)
    assert (one.id, one.changes[0].after) == ("role/LabctlPool", "Sys.Modify")
