"""What a cut-off run left is known by the journal and by what the hypervisor says, or it is a stranger's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labctl.model.inventory import FirewallRule, GuestEntry, Pool
from labctl.model.leftovers import Found, candidates, entered, in_doubt, known_destroyed, leftovers, unfinished

VAULT = "proxmox_virtual_environment_vm.vault"
VALUES = {"vm_id": 102, "name": "vault", "node_name": "pve", "tags": ["datalab", "labctl", "role-vault"], "pool_id": "datalab"}
GUEST = GuestEntry(102, "vault", "pve", "qemu", "running", pool="datalab", tags=("datalab", "labctl", "role-vault"))


def resource(address: str, values: dict[str, Any]) -> dict[str, Any]:
    kind, name = address.split(".")
    provider = "registry.terraform.io/bpg/proxmox"
    return {
        "address": address,
        "mode": "managed",
        "type": kind,
        "name": name,
        "provider_name": provider,
        "schema_version": 0,
        "values": values,
    }


def stack(stage: str, **more: Any) -> dict[str, Any]:
    return {"type": "stack", "stack": "foundation", "stage": stage, **more}


def test_runs_since_the_last_good_end_count() -> None:
    killed = [stack("planning"), stack("applying", creates=["a", "b"])]
    failed = [stack("applying", creates=["b", "c"]), {"type": "report", "result": "failed"}]
    good = [stack("applying", creates=["z"]), stack("applied")]
    found = unfinished([("4", [stack("planning")]), ("3", killed), ("2", failed), ("1", good), ("0", killed)], "foundation")
    assert found.runs == ("2", "3")
    assert found.creates == {"a", "b", "c"}


@pytest.mark.parametrize("end", ["applied", "up to date", "destroyed"])
def test_a_good_end_leaves_nothing(end: str) -> None:
    assert unfinished([("2", [stack(end)]), ("1", [stack("applying", creates=["a"])])], "foundation").creates == frozenset()


def test_a_stack_is_known_to_be_destroyed_by_the_last_run_that_touched_it() -> None:
    gone = [stack("applying"), stack("planning"), stack("applying"), stack("destroyed")]
    cut_off = [stack("applying"), stack("destroyed"), stack("applying")]
    for journals, known in (
        ([("2", [stack("planning")]), ("1", gone)], True),
        ([("2", cut_off), ("1", gone)], False),
        ([("2", [stack("applying"), stack("applied")]), ("1", gone)], False),
        ([("1", [stack("planning")])], False),
        ([], False),
    ):
        assert known_destroyed(journals, "foundation") is known
        assert known_destroyed(journals, "platform") is False


def test_a_stack_is_in_doubt_while_its_apply_has_no_good_end() -> None:
    other = {"type": "stack", "stack": "platform", "stage": "applying"}
    assert in_doubt([stack("planning")]) == frozenset()
    assert in_doubt([stack("applying"), other, stack("applied")]) == {"platform"}
    assert in_doubt([stack("applied"), stack("applying")]) == {"foundation"}


def test_another_stacks_run_says_nothing() -> None:
    assert unfinished([("1", [stack("applying", creates=["a"])])], "platform").creates == frozenset()


def test_only_what_the_cut_off_run_was_creating_is_looked_for() -> None:
    change = {"address": VAULT, "type": "proxmox_virtual_environment_vm", "change": {"actions": ["create"]}}
    plan = {"resource_changes": [change], "planned_values": {"root_module": {"resources": [resource(VAULT, VALUES)]}}}
    assert [one["address"] for one in candidates(plan, {VAULT})] == [VAULT]
    assert candidates(plan, {"proxmox_virtual_environment_vm.store"}) == ()
    change["change"] = {"actions": ["delete", "create"]}
    assert candidates(plan, {VAULT}) == ()


def test_the_guest_that_the_run_made_is_taken_over() -> None:
    (found,) = leftovers([resource(VAULT, VALUES)], Found(guests=(GUEST,)))
    assert (found.address, found.id) == (VAULT, "102")


@pytest.mark.parametrize(
    "difference",
    [
        {"name": "photos"},
        {"node": "pve2"},
        {"kind": "lxc"},
        {"pool": ""},
        {"pool": "other"},
        {"tags": ()},
        {"tags": ("datalab", "labctl")},
        {"tags": ("datalab", "labctl", "mine", "role-vault")},
        {"template": True},
        {"vmid": 103},
    ],
)
def test_a_guest_that_differs_in_anything_is_a_strangers(difference: dict[str, Any]) -> None:
    assert leftovers([resource(VAULT, VALUES)], Found(guests=(replace(GUEST, **difference),))) == ()


def test_a_pool_needs_the_labs_own_comment() -> None:
    planned = [resource("proxmox_virtual_environment_pool.lab", {"pool_id": "datalab", "comment": "Lab datalab, made by labctl"})]
    assert leftovers(planned, Found(pools=(Pool("datalab", "photos"),))) == ()
    assert leftovers(planned, Found(pools=(Pool("datalab", "Lab datalab, made by labctl"),)))[0].id == "datalab"


def test_firewall_rules_are_taken_over_only_where_all_are_planned() -> None:
    rule = {"type": "in", "action": "ACCEPT", "dport": "8200", "comment": "Vault API"}
    planned = [resource("proxmox_virtual_environment_firewall_rules.vault", {"vm_id": 102, "node_name": "pve", "rule": [rule]})]
    ours, other = FirewallRule("in", "ACCEPT", "8200", "Vault API"), FirewallRule("in", "ACCEPT", "22")
    assert leftovers(planned, Found(rules={102: ()})) == ()
    assert leftovers(planned, Found(rules={102: (ours, other)})) == ()
    # The id that bpg/proxmox 0.111.1 gave these rules in a recorded state.
    assert leftovers(planned, Found(rules={102: (ours,)}))[0].id == "rule-2290146111"


def test_a_state_gets_the_guest_and_keeps_the_rest() -> None:
    found = leftovers([resource(VAULT, VALUES)], Found(guests=(GUEST,)))
    before = {"version": 4, "serial": 7, "lineage": "x", "outputs": {"a": {}}, "resources": []}
    after = entered(before, found, "1.11.4")
    assert (after["serial"], after["lineage"], after["outputs"]) == (8, "x", {"a": {}})
    assert before["resources"] == []
    (made,) = after["resources"]
    assert made["provider"] == 'provider["registry.terraform.io/bpg/proxmox"]'
    assert made["instances"][0]["attributes"] == {**VALUES, "id": "102"}
    assert entered(after, found, "1.11.4")["resources"] == after["resources"]


def test_where_there_was_no_state_there_is_a_new_one() -> None:
    found = leftovers([resource(VAULT, VALUES)], Found(guests=(GUEST,)))
    made = entered({}, found, "1.11.4")
    assert (made["version"], made["serial"], made["terraform_version"]) == (4, 1, "1.11.4")
    assert len(made["lineage"]) == 36
