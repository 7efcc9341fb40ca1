"""What a drift check asks: pending options, further nodes, users with tokens, mappings and devices, volumes that are hidden."""

from __future__ import annotations

from typing import Any

import pytest


def pending(pve: Any) -> dict[str, dict[str, Any]]:
    return {entry["key"]: entry for entry in pve.ok("GET", "/nodes/pve/qemu/201/pending")}


def test_what_the_control_address_changes_waits_for_the_next_start(pve: Any) -> None:
    pve.vm(201, memory=512, onboot=1, start=1)
    assert all(set(entry) == {"key", "value"} for entry in pending(pve).values())
    assert pve.control("POST", "guests/201/pending", {"memory": "1024", "cores": "2", "onboot": None})[0] == 200
    found = pending(pve)
    assert found["memory"] == {"key": "memory", "value": 512, "pending": "1024"}
    assert found["cores"] == {"key": "cores", "pending": "2"}
    assert found["onboot"] == {"key": "onboot", "value": 1, "delete": 1}
    assert pve.ok("GET", "/nodes/pve/qemu/201/config")["memory"] == "1024"
    assert pve.ok("GET", "/nodes/pve/qemu/201/config", current=1)["memory"] == 512
    pve.ok("POST", "/nodes/pve/qemu/201/status/reboot")
    assert pending(pve)["memory"] == {"key": "memory", "value": "1024"}
    assert "onboot" not in pending(pve)
    assert pve.control("POST", "guests/999/pending", {})[0] == 404


def test_a_further_node_can_be_switched_off(pve: Any) -> None:
    pve.vm(201, tags="labctl")
    assert pve.control("POST", "guests/201/node", {"node": "pve2"})[0] == 404
    pve.control("POST", "nodes/pve2", {"online": True})
    pve.control("POST", "guests/201/node", {"node": "pve2"})
    (guest,) = pve.ok("GET", "/cluster/resources", type="vm")
    assert (guest["node"], guest["status"], guest["name"]) == ("pve2", "stopped", "vm201")
    assert [node["status"] for node in pve.ok("GET", "/nodes")] == ["online", "online"]
    assert pve.ok("GET", "/nodes/pve2/qemu/201/config")["name"] == "vm201"
    assert pve.ok("GET", "/nodes/pve/qemu") == []
    assert pve.fails("GET", "/nodes/pve/qemu/201/config") == (
        500,
        "Configuration file 'nodes/pve/qemu-server/201.conf' does not exist",
    )
    pve.control("POST", "nodes/pve2", {"online": False})
    (guest,) = pve.ok("GET", "/cluster/resources", type="vm")
    assert (guest["node"], guest["status"], guest["tags"], guest.get("name")) == ("pve2", "unknown", "labctl", None)
    assert pve.fails("GET", "/nodes/pve2/qemu/201/config") == (595, "No route to host")
    assert pve.fails("GET", "/cluster/nextid", vmid=201)[0] == 400
    assert [item["online"] for item in pve.ok("GET", "/cluster/status")] == [1, 0]
    pve.control("DELETE", "nodes/pve2")
    assert pve.ok("GET", "/nodes/pve/qemu/201/config")["name"] == "vm201"
    assert pve.control("POST", "nodes/pve", {})[0] == 400
    assert pve.fails("GET", "/nodes/pve2/qemu")[0] == 500


def test_users_with_their_tokens(pve: Any) -> None:
    pve.ok("POST", "/access/users", userid="ci@pve", expire=7)
    pve.ok("POST", "/access/users/ci@pve/token/job", expire=1811808000)
    auditor = pve.user("eye@pve", PVEAuditor="/access")
    found = {user["userid"]: user for user in pve.ok("GET", "/access/users", auditor, full=1)}
    assert found["ci@pve"]["tokens"] == [{"tokenid": "job", "privsep": 1, "expire": 1811808000}]
    assert found["ci@pve"]["expire"] == 7
    assert "tokens" not in pve.ok("GET", "/access/users", auditor)[0]
    stranger = pve.user("nobody@pve")
    assert [user["userid"] for user in pve.ok("GET", "/access/users", stranger, full=1)] == ["nobody@pve"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id=10de:2204,iommugroup=14,node=pve,path=0000:01:00.0,subsystem-id=10de:147d", []),
        ("id=10de:2204,node=pve,path=0000:01:00", []),
        ("id=10de:2204,node=pve,path=0000:02:00.0", ["Invalid configuration: pci device '0000:02:00.0' not found\n"]),
        (
            "id=10de:9999,node=pve,path=0000:01:00.0",
            ["Invalid configuration: 'id' does not match for 'gpu0' (10de:2204 != 10de:9999)\n"],
        ),
        ("id=10de:2204,node=pve2,path=0000:01:00.0", ["No mapping for node pve."]),
    ],
)
def test_a_mapping_is_held_against_the_nodes_devices(pve: Any, text: str, said: list[str]) -> None:
    pve.ok("POST", "/cluster/mapping/pci", id="gpu0", map=text)
    (found,) = pve.ok("GET", "/cluster/mapping/pci", check_node="pve")
    assert [check["message"] for check in found["checks"]] == said
    assert "checks" not in pve.ok("GET", "/cluster/mapping/pci")[0]


# Who is shown what, by pve-storage's `check_volume_access`: role, where it is granted, the contents that are listed.
SHOWN = [
    ({"PVEAuditor": "/storage"}, {"import"}),
    ({"PVEDatastoreUser": "/storage"}, {"import"}),
    ({"PVEDatastoreAdmin": "/storage"}, {"import", "snippets", "images", "backup"}),
    ({"PVEAuditor": "/storage", "PVEVMAdmin": "/vms"}, {"import", "images"}),
    ({"PVEDatastoreUser": "/storage", "PVEVMUser": "/vms"}, {"import", "backup"}),
]


@pytest.mark.parametrize(("roles", "shown"), SHOWN)
def test_volumes_that_the_caller_may_not_read_are_left_out(pve: Any, roles: dict[str, str], shown: set[str]) -> None:
    pve.ok("POST", "/nodes/pve/storage/local-lvm/content", vmid=107, filename="vm-107-disk-0", size="4G")
    for kind, name in (("snippets", "a.yaml"), ("import", "b.qcow2"), ("dump", "vzdump-qemu-107-x.vma")):
        (pve.home / "pve" / "var" / "lib" / "vz" / kind / name).write_text("x")
    token = pve.user("eye@pve", **roles)
    listed = [item for store in ("local", "local-lvm") for item in pve.ok("GET", f"/nodes/pve/storage/{store}/content", token)]
    assert {item["content"] for item in listed} == shown
    assert {item.get("vmid") for item in listed if item["content"] in {"images", "backup"}} <= {107}


def test_a_disk_without_a_guest(pve: Any) -> None:
    path = "/nodes/pve/storage/local-lvm/content"
    assert pve.ok("POST", path, vmid=107, filename="vm-107-disk-0", size="1024") == "local-lvm:vm-107-disk-0"
    assert pve.ok("GET", path)[0]["size"] == 2**20
    assert pve.fails("POST", path, vmid=107, filename="vm-107-disk-0", size="4G")[0] == 500
    assert pve.fails("POST", path, vmid=107, filename="vm-108-disk-0", size="4G")[0] == 500
    assert pve.fails("POST", path, token=pve.user("eye@pve", PVEAuditor="/"), vmid=107, filename="vm-107-x", size="4G")[0] == 403
