"""Contracts, states and the mask."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.contracts import FoundationContract, check_outputs
from labctl.model.errors import AdapterError
from labctl.model.secret import MASK, Secret
from labctl.model.state import parse_state, without

FOUNDATION = {
    "node": "pve",
    "pool_id": "lab",
    "image_file_id": "local:import/a.qcow2",
    "snippet_datastore": "local",
    "disk_datastore": "local-lvm",
    "vault_address": "https://192.0.2.12:8200",
    "s3_endpoint": "https://192.0.2.11:9000",
    "s3_region": "eu-west-1",
    "buckets": ["terraform"],
    "guests": {"vault": {"vmid": 102, "address": "192.0.2.12"}},
}


def test_outputs_that_keep_the_contract() -> None:
    contract = check_outputs("foundation", FOUNDATION)
    assert isinstance(contract, FoundationContract)
    assert contract.guests["vault"].vmid == 102


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"node": None}, "output 'node'"),
        ({"extra": 1}, "output 'extra' is not in the contract"),
        ({"vault_address": "http://192.0.2.12"}, "output 'vault_address'"),
        ({"buckets": []}, "output 'buckets'"),
        ({"guests": {"vault": {"vmid": 7, "address": "192.0.2.12"}}}, "output 'guests.vault.vmid'"),
    ],
)
def test_outputs_that_break_it_name_layer_output_and_rule(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(AdapterError) as caught:
        check_outputs("foundation", FOUNDATION | change)
    assert str(caught.value).startswith("foundation: ")
    assert sentence in str(caught.value)


def test_a_missing_output_is_named() -> None:
    with pytest.raises(AdapterError, match="output 'node' is missing"):
        check_outputs("foundation", {k: v for k, v in FOUNDATION.items() if k != "node"})


def state(**extra: object) -> str:
    vm = {
        "mode": "managed",
        "type": "proxmox_virtual_environment_vm",
        "name": "vault",
        "instances": [{"attributes": {"vm_id": 102}, "status": "tainted"}],
    }
    return json.dumps({"version": 4, "serial": 3, "outputs": {"node": {"value": "pve"}}, "resources": [vm]} | extra)


def test_a_state_is_read_without_a_process() -> None:
    found = parse_state(state(), "foundation")
    assert (found.serial, found.outputs, found.vmids, found.resources) == (3, {"node": "pve"}, frozenset({102}), 1)
    assert found.tainted == ("proxmox_virtual_environment_vm.vault",)
    assert found.deployed
    assert found.guests == {"proxmox_virtual_environment_vm.vault": "vault"}
    assert not parse_state(None, "foundation").deployed


def test_addresses_are_those_that_terraform_takes() -> None:
    def resource(kind: str, name: str, *instances: dict[str, object], **more: str) -> dict[str, object]:
        return {"mode": "managed", "type": kind, "name": name, "instances": list(instances), **more}

    vm = "proxmox_virtual_environment_vm"
    text = state(
        resources=[
            resource("a", "plain", {}),
            resource("a", "counted", {"index_key": 0}, {"index_key": 1, "status": "tainted"}),
            resource(vm, "each", {"index_key": 'x"y', "attributes": {"name": "gitlab"}}, module="module.inner[0]"),
            resource("a", "gone"),
        ]
    )
    found = parse_state(text, "foundation")
    each = f'module.inner[0].{vm}.each["x\\"y"]'
    assert found.addresses == {"a.plain", "a.counted[0]", "a.counted[1]", each}
    assert found.tainted == ("a.counted[1]",)
    assert found.guests == {each: "gitlab"}


def test_a_state_without_what_went_with_a_guest() -> None:
    def resource(kind: str, *instances: dict[str, object], mode: str = "managed") -> dict[str, object]:
        return {"mode": mode, "type": kind, "name": "n", "instances": list(instances)}

    rules, options = (f"proxmox_virtual_environment_firewall_{part}" for part in ("rules", "options"))
    two = [{"index_key": key, "attributes": {"vm_id": vmid}} for key, vmid in ((0, 201), (1, 202))]
    document = json.loads(
        state(
            serial=4,
            resources=[resource(rules, *two), resource(options, two[1]), resource("d", {}, mode="data"), resource("a", {})],
        )
    )
    found = parse_state(json.dumps(document), "platform")
    assert found.on_guests == {f"{rules}.n[0]": 201, f"{rules}.n[1]": 202, f"{options}.n[1]": 202}
    left = without(document, {address for address, vmid in found.on_guests.items() if vmid == 202})
    assert parse_state(json.dumps(left), "platform").addresses == {f"{rules}.n[0]", "a.n"}
    assert [one["mode"] for one in left["resources"]] == ["managed", "data", "managed"]
    assert left["serial"] == 5
    assert without(document, ()) == {**document, "serial": 5}


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 3}', state(serial="x")])
def test_an_unreadable_state_is_an_error_with_its_place(text: str) -> None:
    with pytest.raises(AdapterError, match="foundation"):
        parse_state(text, "foundation")


@given(st.text(min_size=4).filter(lambda value: value not in f"Secret({MASK})"))
def test_a_secret_shows_itself_nowhere_but_in_reveal(value: str) -> None:
    secret = Secret(value)
    for shown in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>20}",
        repr([secret]),
        str(pickle.loads(pickle.dumps(secret))),
    ):
        assert value not in shown
    assert secret.reveal() == value
    with pytest.raises(TypeError):
        json.dumps(secret)
