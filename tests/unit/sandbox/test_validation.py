"""Parameters: PVE's wording for what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"

CASES = [
    ({"vmid": 201, "colour": "red"}, {"colour": UNKNOWN}),
    ({}, {"vmid": "property is missing and it is not optional"}),
    ({"vmid": "many"}, {"vmid": "type check ('integer') failed - got 'many'"}),
    ({"vmid": 99}, {"vmid": "value must have a minimum value of 100"}),
    ({"vmid": 1_000_000_000}, {"vmid": "value must have a maximum value of 999999999"}),
    ({"vmid": 201, "onboot": "perhaps"}, {"onboot": "type check ('boolean') failed - got 'perhaps'"}),
    ({"vmid": 201, "bios": "award"}, {"bios": "value 'award' does not have a value in the enumeration 'seabios, ovmf'"}),
    ({"vmid": 201, "serial0": "tape"}, {"serial0": "value does not match the regex pattern"}),
    ({"vmid": 201, "name": "no_dns"}, {"name": "invalid format - value does not look like a valid DNS name\n"}),
    ({"vmid": 201, "cpulimit": 129}, {"cpulimit": "value must have a maximum value of 128"}),
    ({"vmid": 201, "description": "x" * 8193}, {"description": "value may only be 8192 characters long"}),
    ({"vmid": 201, "net0": "virtio,brigde=vmbr0"}, {"net0": f"invalid format - format error\nnet0.brigde: {UNKNOWN}\n"}),
    ({"vmid": 201, "tags": "two words;a/b"}, {"tags": "invalid format - invalid characters in tag\n"}),
    (
        {"vmid": 201, "memory": 8},
        {"memory": "invalid format - format error\nmemory.current: value must have a minimum value of 16\n"},
    ),
]


@pytest.mark.parametrize(("fields", "errors"), CASES, ids=[",".join(errors) + str(n) for n, (_, errors) in enumerate(CASES)])
def test_a_vm_with_wrong_parameters_is_refused_and_not_made(pve: Any, fields: dict[str, Any], errors: dict[str, str]) -> None:
    assert pve.problems("POST", "/nodes/pve/qemu", **fields) == errors
    assert pve.host.state.guests == {}


def test_every_wrong_parameter_is_named_at_once(pve: Any) -> None:
    assert set(pve.problems("POST", "/nodes/pve/qemu", vmid=7, bios="x", wheels=4)) == {"vmid", "bios", "wheels"}


def test_json_bodies_and_repeated_fields_are_understood(pve: Any) -> None:
    headers = {"Authorization": f"PVEAPIToken={pve.token}"}
    status, _, _ = pve.request("POST", "/api2/json/nodes/pve/qemu", headers=headers, json={"vmid": 201, "onboot": True})
    assert status == 200
    pve.runner.run(pve.host.tasks.drain(5))
    assert pve.host.state.guests["201"].config["onboot"] == 1
    pve.vm(202)
    pve.ok("PUT", "/nodes/pve/qemu/202/config", delete=["net0", "agent"])
    assert {"net0", "agent"}.isdisjoint(pve.host.state.guests["202"].config)


def test_a_vmid_that_exists_is_refused_with_the_sentence_that_the_provider_knows(pve: Any) -> None:
    pve.vm(201)
    assert pve.fails("POST", "/nodes/pve/qemu", vmid=201) == (
        500,
        "unable to create VM 201 - VM 201 already exists on node 'pve'",
    )


def test_what_is_not_there_is_named(pve: Any) -> None:
    assert pve.fails("GET", "/nodes/pve/qemu/999/config") == (
        500,
        "Configuration file 'nodes/pve/qemu-server/999.conf' does not exist",
    )
    assert pve.fails("GET", "/nodes/pve/storage/tape/content") == (500, "storage 'tape' does not exist")
    assert pve.fails("POST", "/nodes/pve/qemu", vmid=201, pool="none") == (500, "pool 'none' does not exist")
    assert pve.fails("POST", "/nodes/pve/qemu", vmid=201, scsi0="tape:8") == (500, "storage 'tape' does not exist")
    assert pve.fails("GET", "/nodes/other/status")[1].startswith("hostname lookup 'other' failed")


def test_a_disk_that_cannot_be_made_fails_the_task_and_leaves_no_guest(pve: Any) -> None:
    ended = pve.ended("POST", "/nodes/pve/qemu", vmid=201, virtio0="local-lvm:0,import-from=local:import/missing.qcow2")
    assert ended == "unable to create VM 201 - volume 'local:import/missing.qcow2' does not exist"
    ended = pve.ended("POST", "/nodes/pve/qemu", vmid=201, virtio0="local-lvm:8", scsi0="local:8")
    assert ended == "unable to create VM 201 - storage 'local' does not support content-type 'images'"
    assert pve.host.state.guests == {}
    assert pve.host.state.volumes == {}


def test_a_start_needs_bridge_snippet_and_mapping(pve: Any) -> None:
    pve.vm(201, net0="virtio,bridge=vmbr9")
    assert pve.ended("POST", "/nodes/pve/qemu/201/status/start") == "bridge 'vmbr9' does not exist"
    pve.vm(202, cicustom="user=local:snippets/gone.yaml")
    assert pve.ended("POST", "/nodes/pve/qemu/202/status/start") == "volume 'local:snippets/gone.yaml' does not exist"
    pve.vm(203, hostpci0="mapping=gpu0,pcie=1")
    assert pve.ended("POST", "/nodes/pve/qemu/203/status/start") == "PCI device mapping not found for 'gpu0'"
    assert pve.runtime.started == []


def test_what_is_not_served_is_501_and_listed(pve: Any) -> None:
    assert pve.fails("GET", "/cluster/ceph/status") == (501, "Method 'GET /cluster/ceph/status' not implemented")
    assert pve.control("GET", "unserved") == (200, ["GET /cluster/ceph/status"])


def test_downloads_are_refused_for_what_the_datastore_does_not_take(pve: Any) -> None:
    url = {"url": "https://example.com/i.qcow2", "content": "import", "filename": "i.qcow2"}
    pve.ok("PUT", "/storage/local", content="iso,vztmpl")
    assert pve.fails("POST", "/nodes/pve/storage/local/download-url", **url) == (
        500,
        "storage 'local' is not configured for content-type 'import'",
    )
    pve.ok("PUT", "/storage/local", content="iso,vztmpl,import,snippets")
    pve.ok("POST", "/nodes/pve/storage/local/download-url", **url)
    assert pve.fails("POST", "/nodes/pve/storage/local/download-url", **url) == (
        500,
        "refusing to override existing file 'i.qcow2'",
    )
    bad = {**url, "filename": "../i.qcow2"}
    assert pve.problems("POST", "/nodes/pve/storage/local/download-url", **bad) == {"filename": "wrong file extension"}
