"""`Proxmox`: what each call asks, and what it makes of recorded answers."""

from __future__ import annotations

import pytest

from labctl.adapters.proxmox import GuestMissing, NotTheApi, ProxmoxFailed, TaskFailed
from labctl.model.errors import AdapterError
from labctl.model.inventory import (
    Account,
    ApiToken,
    Datastore,
    Grant,
    GuestEntry,
    Node,
    Option,
    PciMapping,
    Pool,
    Volume,
)

UPID = "UPID:pve:000003E9:00001B67:6922AAAA:qmstart:102:labctl@pve!labctl:"
TASK = f"/nodes/pve/tasks/{UPID}"

STORAGE = [
    {"storage": "local-lvm", "type": "lvmthin", "content": "rootdir,images", "active": 1, "enabled": 1, "shared": 0,
     "total": 1000, "used": 400, "avail": 600, "used_fraction": 0.4},
    {"storage": "nfs", "type": "nfs", "content": "iso", "active": 0, "enabled": 0, "shared": 1},
    {"storage": "local", "type": "dir", "content": "snippets,iso,vztmpl,backup,import", "active": 1, "enabled": 1, "shared": 0,
     "total": 500, "used": 100, "avail": 400},
]  # fmt: skip

READS = [
    ("version", (), "/version", {}, {"version": "8.4.1", "release": "8.4"}, lambda r: r.numbers == (8, 4)),
    ("nodes", (), "/nodes", {}, [{"node": "pve2", "status": "offline"}, {"node": "pve", "status": "online", "cpu": 0.1}],
     lambda r: r == (Node("pve", True), Node("pve2", False))),
    ("nodes", (), "/nodes", {}, [{"node": "pve"}], lambda r: r == (Node("pve", False),)),
    ("datastores", ("pve",), "/nodes/pve/storage", {}, STORAGE, lambda r: r == (
        Datastore("local", "dir", frozenset({"snippets", "iso", "vztmpl", "backup", "import"}), 500, 400, True),
        Datastore("local-lvm", "lvmthin", frozenset({"rootdir", "images"}), 1000, 600, True),
        Datastore("nfs", "nfs", frozenset({"iso"}), 0, 0, False))),
    ("bridges", ("pve",), "/nodes/pve/network", {"type": ["any_bridge"]},
     [{"iface": "vmbr1", "type": "bridge"}, {"iface": "eno1", "type": "eth"}, {"iface": "vmbr0", "type": "OVSBridge"},
      {"iface": "lab", "type": "vnet"}], lambda r: r == ("lab", "vmbr0", "vmbr1")),
    ("permissions", (), "/access/permissions", {}, {"/": {"Sys.Audit": 1}, "/vms": {"VM.Audit": 0}},
     lambda r: r.entries == {"/": {"Sys.Audit": True}, "/vms": {"VM.Audit": False}}),
    ("volumes", ("pve", "local", "import"), "/nodes/pve/storage/local/content", {"content": ["import"]},
     [{"volid": "local:import/u.qcow2", "content": "import", "format": "qcow2", "size": 7, "ctime": 1}],
     lambda r: r == (Volume("local:import/u.qcow2", "import", "qcow2", 7),)),
    ("volumes", ("pve", "local-lvm"), "/nodes/pve/storage/local-lvm/content", {},
     [{"volid": "local-lvm:vm-102-disk-0", "content": "images", "format": "raw", "size": 9, "vmid": "102"}],
     lambda r: r == (Volume("local-lvm:vm-102-disk-0", "images", "raw", 9, 102),)),
    ("pools", (), "/pools", {}, [{"poolid": "datalab", "comment": "a lab"}, {"poolid": "a"}],
     lambda r: r == (Pool("a"), Pool("datalab", "a lab"))),
    ("firewall_enabled", (), "/cluster/firewall/options", {}, {"enable": 1, "digest": "x"}, lambda r: r is True),
    ("firewall_enabled", (), "/cluster/firewall/options", {}, {"digest": "x"}, lambda r: r is False),
    ("pci_mappings", ("pve",), "/cluster/mapping/pci", {"check-node": ["pve"]},
     [{"id": "b", "map": [], "checks": [{"severity": "error", "message": "Invalid configuration: x\n"},
       {"severity": "warning", "message": "No mapping"}]}, {"id": "a", "map": [], "checks": []}],
     lambda r: r == (PciMapping("a"), PciMapping("b", "Invalid configuration: x; No mapping"))),
    ("accounts", (), "/access/users", {"full": ["1"]},
     [{"userid": "root@pam", "enable": 1, "expire": 0},
      {"userid": "ci@pve", "enable": 0, "expire": 7, "groups": "", "tokens": [
          {"tokenid": "a", "expire": 1811808000, "privsep": 1}, {"tokenid": "b", "privsep": 0}]}],
     lambda r: r == (Account("ci@pve", False, 7, (ApiToken("a", 1811808000), ApiToken("b"))), Account("root@pam"))),
    ("grants", (), "/access/acl", {},
     [{"path": "/vms/1", "type": "user", "ugid": "ci@pve", "roleid": "PVEVMUser", "propagate": 1}],
     lambda r: r == (Grant("/vms/1", "user", "ci@pve", "PVEVMUser"),)),
    ("roles", (), "/access/roles", {}, [{"roleid": "A", "privs": "Sys.Audit,VM.Audit", "special": 0}, {"roleid": "NoAccess"}],
     lambda r: r == {"A": frozenset({"Sys.Audit", "VM.Audit"}), "NoAccess": frozenset()}),
    ("time", ("pve",), "/nodes/pve/time", {}, {"time": 1763784000, "localtime": 1763787600, "timezone": "Europe/Berlin"},
     lambda r: r == 1763784000),
]  # fmt: skip


@pytest.mark.parametrize(("call", "args", "path", "fields", "data", "right"), READS)
def test_reads(stub, pve, call, args, path, fields, data, right):
    stub.on("GET", path, data)
    result = getattr(pve, call)(*args)
    assert right(result), result
    assert [(one.method, one.path, one.fields) for one in stub.asked] == [("GET", path, fields)]


def test_resources(stub, pve):
    assert pve.resources() == (
        GuestEntry(102, "vault", "pve", "qemu", "running", "datalab", ("datalab", "labctl", "role-vault")),
        GuestEntry(300, "dns", "pve", "lxc", "running"),
    )
    assert stub.asked[0].fields == {"type": ["vm"]}


def test_what_waits_for_a_guests_next_start(stub, pve):
    stub.on("GET", "/nodes/pve/qemu/102/pending", [
        {"key": "memory", "value": "512", "pending": "1024"}, {"key": "cores", "pending": 2},
        {"key": "hostpci0", "value": "x", "delete": 1},
        {"key": "onboot", "value": 1}, {"key": "name", "value": "vault"},
    ])  # fmt: skip
    found = pve.options(102)
    assert found == (
        Option("memory", "512", "1024"),
        Option("cores", None, "2"),
        Option("hostpci0", "x", removed=True),
        Option("onboot", "1"),
        Option("name", "vault"),
    )
    assert [option.name for option in found if option.waits] == ["memory", "cores", "hostpci0"]


def test_resources_with_little_in_them(stub, pve):
    stub.on("GET", "/cluster/resources", [{"vmid": "9000", "type": "qemu", "node": "b", "template": 1, "lock": "clone"}])
    assert pve.resources() == (GuestEntry(9000, "", "b", "qemu", "unknown", template=True, lock="clone"),)


@pytest.mark.parametrize("call", ["resources", "nodes", "permissions", "pools", "accounts", "grants", "roles"])
@pytest.mark.parametrize("data", ["text", 5, [5], [{"other": 1}], {"a": 5}])
def test_an_answer_of_another_shape_is_told(stub, pve, call, data):
    paths = {"resources": "/cluster/resources", "permissions": "/access/permissions", "accounts": "/access/users"}
    path = (paths | {"grants": "/access/acl", "roles": "/access/roles"}).get(call, f"/{call}")
    stub.on("GET", path, data)
    with pytest.raises(NotTheApi, match=f"GET {path} has another shape"):
        getattr(pve, call)()


def test_a_segment_cannot_lead_elsewhere(stub, pve, answer):
    stub.on("GET", "/nodes/../access/users/storage", STORAGE)
    with pytest.raises((ProxmoxFailed, NotTheApi)):
        pve.datastores("../../nodes/pve")
    assert "/nodes/pve/storage" not in [one.path for one in stub.asked]


def test_vmid_free(stub, pve, answer):
    taken = answer(status=400, reason="Parameter verification failed.", errors={"vmid": "VM 201 already exists"})
    stub.on("GET", "/cluster/nextid", "201", taken)
    assert pve.vmid_free(201) is True
    assert pve.vmid_free(201) is False
    assert stub.asked[0].fields == {"vmid": ["201"]}


def test_vmid_free_does_not_take_any_refusal_for_taken(stub, pve, answer):
    stub.on("GET", "/cluster/nextid", answer(status=400, reason="Parameter verification failed.", errors={"vmid": "too large"}))
    with pytest.raises(ProxmoxFailed, match="too large"):
        pve.vmid_free(10**10)


def test_guests_are_addressed_by_node_and_kind(stub, pve):
    stub.on("GET", "/nodes/pve/lxc/300/status/current", {"vmid": 300, "status": "running", "uptime": 5})
    assert pve.status(300).uptime_s == 5
    assert pve.status(300).status == "running"
    assert stub.sent().count(("GET", "/cluster/resources")) == 1


def test_a_guest_that_is_not_there(stub, pve):
    with pytest.raises(GuestMissing, match="no guest 555"):
        pve.status(555)


def on_power(stub, now: str, call: str, outcome: str = "OK", log: tuple[str, ...] = ()) -> None:
    stub.on("GET", "/nodes/pve/qemu/102/status/current", {"vmid": 102, "status": now})
    stub.on("POST", f"/nodes/pve/qemu/102/status/{call}", UPID)
    running = {"status": "running", "upid": UPID}
    stub.on("GET", f"{TASK}/status", running, running, {"status": "stopped", "exitstatus": outcome})
    stub.on("GET", f"{TASK}/log", [{"n": n, "t": text} for n, text in enumerate(log, 1)])


@pytest.mark.parametrize(
    ("call", "now", "sends"),
    [("start", "stopped", True), ("start", "running", False), ("stop", "running", True), ("stop", "stopped", False),
     ("shutdown", "running", True), ("shutdown", "stopped", False)],
)  # fmt: skip
def test_power(stub, pve, clock, call, now, sends):
    on_power(stub, now, call)
    getattr(pve, call)(102)
    assert (("POST", f"/nodes/pve/qemu/102/status/{call}") in stub.sent()) is sends
    assert clock.pauses == ([0.5, 0.5] if sends else [])


def test_a_task_with_warnings_has_done_its_work(stub, pve):
    on_power(stub, "stopped", "start", "WARNINGS: 1")
    pve.start(102)


def test_a_failed_task_is_told_with_its_log(stub, pve):
    lines = (*(f"line {n}" for n in range(20)), "TASK ERROR: no space left")
    on_power(stub, "stopped", "start", "no space left", lines)
    with pytest.raises(TaskFailed, match="task qmstart failed: no space left") as caught:
        pve.start(102)
    assert caught.value.log == lines[-10:]
    assert "TASK ERROR: no space left" in caught.value.hint


def test_a_task_that_does_not_end(stub, pve):
    stub.on("GET", f"{TASK}/status", {"status": "running"})
    with pytest.raises(AdapterError, match="has not ended after 3 s"):
        pve.wait_task(UPID, timeout_s=3)


def test_task_log(stub, pve):
    stub.on("GET", f"{TASK}/log", [{"n": 1, "t": "starting"}, {"n": 2, "t": "TASK OK"}])
    stub.on("GET", f"{TASK}/status", {"status": "stopped", "exitstatus": "OK"})
    log = pve.task_log(UPID)
    assert (log.lines, log.outcome) == (("starting", "TASK OK"), "OK")


def test_an_answer_that_is_no_task(stub, pve):
    stub.on("GET", "/nodes/pve/qemu/102/status/current", {"vmid": 102, "status": "stopped"})
    stub.on("POST", "/nodes/pve/qemu/102/status/start", None)
    with pytest.raises(NotTheApi):
        pve.start(102)


def test_it_is_a_context_manager(stub, pve):
    stub.on("GET", "/version", {"version": "9.0.10"})
    with pve as client:
        assert client is pve
        client.version()
