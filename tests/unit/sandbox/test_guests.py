"""Guests: disks, configuration, power, locks."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.sandbox.pve.formats import GIB
from labctl.sandbox.pve.storage import IMAGE_VIRTUAL_SIZE, qcow2_image, virtual_size

IMPORT = "local-lvm:0,import-from=local:import/debian.qcow2,discard=on"


@pytest.fixture
def image(pve: Any) -> None:
    pve.ok(
        "POST",
        "/nodes/pve/storage/local/download-url",
        url="https://example.com/debian.qcow2",
        content="import",
        filename="debian.qcow2",
    )


def test_a_downloaded_image_is_a_valid_qcow2_of_a_plausible_size(pve: Any, image: None) -> None:
    file = pve.home / "pve/var/lib/vz/import/debian.qcow2"
    assert file.read_bytes() == qcow2_image(IMAGE_VIRTUAL_SIZE)
    assert virtual_size(file) == IMAGE_VIRTUAL_SIZE
    metadata = pve.ok("GET", "/nodes/pve/query-url-metadata", url="https://example.com/debian.qcow2")
    assert metadata["size"] == file.stat().st_size, "else `overwrite = true` would plan a replacement for ever"


def test_an_imported_disk_has_the_images_size_and_grows(pve: Any, image: None) -> None:
    pve.vm(201, virtio0=IMPORT)
    config = pve.ok("GET", "/nodes/pve/qemu/201/config")
    assert config["virtio0"] == f"local-lvm:vm-201-disk-0,discard=on,size={IMAGE_VIRTUAL_SIZE // 2**20}M"
    pve.ok("PUT", "/nodes/pve/qemu/201/resize", disk="virtio0", size="20G")
    assert pve.ok("GET", "/nodes/pve/qemu/201/config")["virtio0"].endswith("size=20G")
    assert pve.ended("PUT", "/nodes/pve/qemu/201/resize", disk="virtio0", size="10G") == "shrinking disks is not supported"
    (volume,) = pve.ok("GET", "/nodes/pve/storage/local-lvm/content")
    assert (volume["size"], volume["vmid"]) == (20 * GIB, 201)


def test_a_disk_that_is_taken_off_stays_as_unused_until_that_is_deleted(pve: Any) -> None:
    pve.vm(201, virtio0="local-lvm:8")
    pve.ok("PUT", "/nodes/pve/qemu/201/config", delete="virtio0")
    assert pve.ok("GET", "/nodes/pve/qemu/201/config")["unused0"] == "local-lvm:vm-201-disk-0"
    pve.ok("PUT", "/nodes/pve/qemu/201/config", delete="unused0")
    assert pve.ok("GET", "/nodes/pve/storage/local-lvm/content") == []


def test_config_shows_no_password_and_keeps_none(pve: Any) -> None:
    pve.vm(201, cipassword="hunter22-hunter22")
    assert pve.ok("GET", "/nodes/pve/qemu/201/config")["cipassword"] == "**********"
    assert "hunter22" not in (pve.home / "state.json").read_text()


def test_mac_address_stays_when_a_device_is_edited(pve: Any) -> None:
    pve.vm(201)
    before = pve.ok("GET", "/nodes/pve/qemu/201/config")["net0"].split(",")[0]
    pve.ok("PUT", "/nodes/pve/qemu/201/config", net0="virtio,bridge=vmbr0,firewall=1")
    assert pve.ok("GET", "/nodes/pve/qemu/201/config")["net0"] == f"{before},bridge=vmbr0,firewall=1"


def test_start_tells_the_runtime_what_the_guest_is(pve: Any) -> None:
    snippet = pve.home / "pve/var/lib/vz/snippets/v.yaml"
    snippet.write_text("#cloud-config\nfqdn: vault.example.com\n")
    pve.vm(
        102,
        name="vault",
        tags="labctl;role-vault",
        ipconfig0="ip=127.86.170.102/24,gw=127.86.170.1",
        cicustom="user=local:snippets/v.yaml",
    )
    pve.ok("POST", "/nodes/pve/qemu/102/status/start")
    (spec,) = pve.runtime.started
    assert (spec.role, spec.address, spec.prefix, spec.fqdn) == ("vault", "127.86.170.102", 24, "vault.example.com")
    assert pve.ok("GET", "/nodes/pve/qemu/102/status/current")["status"] == "running"
    assert pve.fails("POST", "/nodes/pve/qemu/102/status/start") == (500, "VM 102 already running")
    assert pve.fails("DELETE", "/nodes/pve/qemu/102") == (500, "VM 102 is running - destroy failed")


@pytest.mark.parametrize(("vmid", "address"), [(201, "127.86.170.201"), (254, "127.86.170.254"), (40_201, "127.86.170.229")])
def test_a_guest_without_a_static_address_has_a_lease_that_depends_on_its_id_alone(pve: Any, vmid: int, address: str) -> None:
    pve.vm(vmid, ipconfig0="ip=dhcp")
    assert pve.host.address_of(pve.host.state.guests[str(vmid)]) == (address, 24)


def test_no_lease_is_the_address_of_the_api_or_of_the_network(pve: Any) -> None:
    pve.vm(100)
    guest = pve.host.state.guests["100"]
    seen = set()
    for vmid in range(100, 2000):
        guest.vmid = vmid
        seen.add(pve.host.address_of(guest)[0])
    assert seen.isdisjoint({"127.86.170.0", "127.86.170.1", "127.86.170.255"})


def test_a_runtime_that_refuses_fails_the_start(pve: Any) -> None:
    pve.vm(201)
    pve.runtime.refuse = "no room"
    assert pve.ended("POST", "/nodes/pve/qemu/201/status/start") == "start failed: no room"
    assert pve.ok("GET", "/nodes/pve/qemu/201/status/current")["status"] == "stopped"


def test_delete_removes_guest_disks_and_firewall(pve: Any) -> None:
    pve.vm(201, virtio0="local-lvm:8")
    pve.ok("PUT", "/nodes/pve/qemu/201/firewall/options", enable=1)
    pve.ok("DELETE", "/nodes/pve/qemu/201/")
    assert (pve.host.state.guests, pve.host.state.volumes, pve.host.state.firewalls) == ({}, {}, {})
    assert "delete 201" in pve.runtime.calls


def test_protection_and_lock_stop_a_delete(pve: Any) -> None:
    pve.vm(201, protection=1)
    assert pve.fails("DELETE", "/nodes/pve/qemu/201") == (500, "can't remove VM 201 - protection mode enabled")
    pve.vm(202)
    pve.control("POST", "guests/202/lock", {"lock": "backup"})
    assert pve.ended("DELETE", "/nodes/pve/qemu/202") == "VM is locked (backup)"
    assert pve.fails("PUT", "/nodes/pve/qemu/202/config", cores=2) == (500, "VM is locked (backup)")
    assert pve.fails("POST", "/nodes/pve/qemu/202/status/start") == (500, "VM is locked (backup)")
    pve.control("DELETE", "guests/202/lock")
    pve.ok("DELETE", "/nodes/pve/qemu/202")


def test_agent_needs_to_be_enabled_and_the_guest_to_run(pve: Any) -> None:
    pve.vm(201, agent=0)
    assert pve.fails("POST", "/nodes/pve/qemu/201/agent/ping") == (500, "No QEMU guest agent configured")
    pve.ok("PUT", "/nodes/pve/qemu/201/config", agent="enabled=1,fstrim_cloned_disks=1")
    assert pve.fails("POST", "/nodes/pve/qemu/201/agent/ping") == (500, "VM 201 is not running")
    pve.ok("POST", "/nodes/pve/qemu/201/status/start")
    assert pve.ok("POST", "/nodes/pve/qemu/201/agent/ping") == {"result": {"asked": "ping"}}
    assert pve.fails("POST", "/nodes/pve/qemu/201/agent/exec", command=["bogus", "x"]) == (500, "Agent error: no such program")


def test_pool_membership_and_an_emptied_pool(pve: Any) -> None:
    pve.ok("POST", "/pools", poolid="lab", comment="c")
    pve.vm(201, pool="lab")
    (pool,) = pve.ok("GET", "/pools", poolid="lab")
    assert [member["id"] for member in pool["members"]] == ["qemu/201"]
    assert pve.fails("DELETE", "/pools", poolid="lab") == (500, "delete pool failed: pool 'lab' is not empty")
    pve.ok("DELETE", "/nodes/pve/qemu/201")
    pve.ok("DELETE", "/pools/lab")
    assert pve.ok("GET", "/pools") == []


def test_firewall_rules_keep_their_order_through_move_and_delete(pve: Any) -> None:
    pve.vm(201)
    where = "/nodes/pve/qemu/201/firewall/rules"
    for port in (1, 2, 3):
        pve.ok("POST", where, type="in", action="ACCEPT", proto="tcp", dport=port, enable=1)
    assert [rule["dport"] for rule in pve.ok("GET", where)] == ["3", "2", "1"]
    pve.ok("PUT", f"{where}/0", moveto=2)
    assert [rule["dport"] for rule in pve.ok("GET", where)] == ["2", "3", "1"]
    pve.ok("DELETE", f"{where}/1")
    assert [(rule["dport"], rule["pos"]) for rule in pve.ok("GET", where)] == [("2", 0), ("1", 1)]
    assert pve.fails("GET", f"{where}/7") == (500, "no rule at position 7")
