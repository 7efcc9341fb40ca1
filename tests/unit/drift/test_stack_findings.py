"""What one plan says of drift: cases as data, in the shape of `terraform show -json`."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.model.drift import Kind, Severity, Verdict
from labctl.model.drift.finding import MASK
from labctl.model.drift.rules import COMPOSE, POOL, VM
from labctl.model.drift.stack import stack_findings, verdict_of

RULES = "proxmox_virtual_environment_firewall_rules"
FILE = "proxmox_virtual_environment_file"


def item(kind: str, actions: str, before: Any, after: Any, name: str = "gitlab", **more: Any) -> dict[str, Any]:
    reason = {"action_reason": more.pop("reason")} if "reason" in more else {}
    change = {"actions": actions.split("/"), "before": before, "after": after, **more}
    return {"address": f"{kind}.{name}", "type": kind, "name": name, "mode": "managed", "change": change, **reason}


def found(
    drift: list[Any],
    wanted: list[Any],
    layer: str = "platform",
    gone: set[str] | None = None,
    lacking: str = "",
    **more: Any,
) -> list[Any]:
    document = {"resource_drift": drift, "resource_changes": wanted, **more}
    return list(stack_findings(document, stack=layer, layer=layer, gone=gone or set(), lacking=lacking))


def memory(value: int) -> dict[str, Any]:
    return {"name": "gitlab", "vm_id": 201, "node_name": "pve", "memory": [{"dedicated": value}]}


def test_changed_outside_and_wanted_is_drift() -> None:
    (one,) = found([item(VM, "update", memory(8192), memory(4096))], [item(VM, "update", memory(4096), memory(8192))])
    assert (one.kind, one.id, one.stack, one.severity) == (Kind.CHANGED, f"{VM}.gitlab", "platform", Severity.MEDIUM)
    assert [(c.path, c.before, c.after) for c in one.changes] == [("memory.dedicated", 8192, 4096)]
    assert one.text.endswith(": memory.dedicated is 4096, should be 8192")
    assert verdict_of((one,)) is Verdict.DRIFTED


def test_wanted_alone_is_pending() -> None:
    (one,) = found([], [item(VM, "update", memory(8192), memory(16384))])
    assert (one.kind, one.severity) == (Kind.PENDING, Severity.LOW)
    assert [(c.path, c.before, c.after) for c in one.changes] == [("memory.dedicated", 16384, 8192)]
    assert verdict_of((one,)) is Verdict.PENDING


def test_changed_outside_to_what_the_code_wants_or_where_nobody_manages_is_nothing() -> None:
    assert found([item(VM, "update", memory(8192), memory(16384))], [item(VM, "no-op", memory(16384), memory(16384))]) == []
    assert verdict_of(()) is Verdict.CLEAN


def test_both_at_once_in_one_attribute_are_both_told() -> None:
    drifted, pending = found([item(VM, "update", memory(8192), memory(4096))], [item(VM, "update", memory(4096), memory(16384))])
    assert [(c.before, c.after) for c in drifted.changes] == [(16384, 4096)]
    assert (pending.kind, [(c.before, c.after) for c in pending.changes]) == (Kind.PENDING, [(16384, 8192)])


def test_two_attributes_of_one_resource_are_told_apart() -> None:
    state, world, code = ({"name": "gitlab", "cores": c, "tags": t} for c, t in ((4, ["a"]), (2, ["a"]), (4, ["a", "b"])))
    drifted, pending = found([item(VM, "update", state, world)], [item(VM, "update", world, code)])
    assert ([c.path for c in drifted.changes], [c.path for c in pending.changes]) == (["cores"], ["tags"])


@pytest.mark.parametrize(
    ("drift", "gone", "kind"),
    [
        pytest.param([item(VM, "delete", memory(8192), None)], set(), Kind.MISSING, id="refresh found it gone"),
        pytest.param([], {f"{VM}.gitlab"}, Kind.MISSING, id="it went with its guest"),
        pytest.param([], set(), Kind.PENDING, id="it was never made"),
    ],
)
def test_a_create_is_missing_or_pending(drift: list[Any], gone: set[str], kind: Kind) -> None:
    (one,) = found(drift, [item(VM, "create", None, memory(8192))], gone=gone)
    assert one.kind is kind
    assert ("deleted outside" in one.text) is (kind is Kind.MISSING)
    assert ("to be created" in one.text) is (kind is Kind.PENDING)


@pytest.mark.parametrize("actions", ["delete", "forget"])
def test_what_the_code_dropped_is_pending(actions: str) -> None:
    (one,) = found([], [item(VM, actions, memory(8192), None)])
    assert (one.kind, "the code no longer has it" in one.text) == (Kind.PENDING, True)


def test_what_follows_from_a_missing_guest_is_not_pending() -> None:
    gone, made = item(VM, "delete", memory(8192), None), item(VM, "create", None, memory(8192))
    rules = item(RULES, "delete/create", {"vm_id": 201}, {"vm_id": 201}, reason="replace_by_triggers")
    outputs = {"output_changes": {"guests": {"actions": ["update"], "before": 1, "after_unknown": True}}}
    assert [one.kind for one in found([gone], [made, rules], **outputs)] == [Kind.MISSING]
    assert [one.kind for one in found([], [rules])] == [Kind.PENDING]


def test_an_output_alone_is_pending_and_masked_where_it_is_sensitive() -> None:
    changed = {"url": {"actions": ["update"], "before": "a", "after": "b"}}
    secret = {"key": {"actions": ["update"], "before": "a", "after": "b", "after_sensitive": True}}
    (one,) = found([], [], output_changes=changed | secret)
    assert {c.path: (c.before, c.after) for c in one.changes} == {"output.key": (MASK, MASK), "output.url": ("b", "a")}


def test_a_sensitive_value_is_masked_everywhere() -> None:
    marks = {"before_sensitive": {"password": True}, "after_sensitive": {"password": True}}
    old, new = {"password": "first-secret"}, {"password": "second-secret"}
    (one,) = found([item(VM, "update", new, old, **marks)], [item(VM, "update", old, new, **marks)])
    assert one.changes[0].before == one.changes[0].after == MASK
    assert "secret" not in repr(one)


NOISE = [
    (POOL, {"members": []}, {"members": [{"vm_id": 101}]}),
    (VM, {"ipv4_addresses": []}, {"ipv4_addresses": [["192.0.2.7"]]}),
    (VM, {"ipv6_addresses": [["fe80::1"]]}, {"ipv6_addresses": []}),
    (VM, {"network_interface_names": ["eth0"]}, {"network_interface_names": ["eth0", "docker0"]}),
    (VM, {"cpu": [{"flags": None}]}, {"cpu": [{"flags": []}]}),
    (VM, {"cpu": [{"flags": ["+aes", "+pcid"]}]}, {"cpu": [{"flags": ["+pcid", "+aes"]}]}),
    (VM, {"initialization": [{"dns": [{"servers": None}]}]}, {"initialization": [{"dns": [{"servers": []}]}]}),
    (VM, {"tags": ["a", "b"]}, {"tags": ["b", "a"]}),
    (VM, {"description": None}, {"description": ""}),
    (COMPOSE, {"networks": ["a", "b"]}, {"networks": ["b", "a"]}),
]


@pytest.mark.parametrize(("kind", "state", "world"), NOISE)
def test_noise_is_no_drift_even_where_the_plan_would_change_it(kind: str, state: Any, world: Any) -> None:
    assert found([item(kind, "update", state, world)], [item(kind, "update", world, state)]) == []
    assert found([], [item(kind, "update", world, state)]) == []


def test_the_order_of_firewall_rules_is_no_noise() -> None:
    one, two = {"dport": "22"}, {"dport": "80"}
    (finding,) = found(
        [item(RULES, "update", {"rule": [one, two]}, {"rule": [two, one]})],
        [item(RULES, "update", {"rule": [two, one]}, {"rule": [one, two]})],
    )
    assert (finding.kind, finding.severity) == (Kind.CHANGED, Severity.HIGH)


def test_a_removed_rule_is_drift_alone_though_the_provider_computes_in_it() -> None:
    state, code = {"rule": [{"dport": "22", "dest": "", "pos": 0}]}, {"rule": [{"dport": "22", "dest": None, "pos": None}]}
    gone = {"rule": []}
    (one,) = found([item(RULES, "update", state, gone)], [item(RULES, "update", gone, code)])
    assert one.kind is Kind.CHANGED


WEIGHTS = [
    ({"disk": [{"size": 20}]}, {"disk": [{"size": 30}]}, Severity.HIGH),
    ({"network_device": [{"bridge": "vmbr0"}]}, {"network_device": [{"bridge": "vmbr1"}]}, Severity.HIGH),
    ({"pool_id": "lab"}, {"pool_id": "other"}, Severity.MEDIUM),
    ({"started": True}, {"started": False}, Severity.MEDIUM),
    ({"tags": ["a"]}, {"tags": ["b"]}, Severity.LOW),
    ({"name": "a", "description": "x"}, {"name": "b", "description": "y"}, Severity.LOW),
    ({"tags": ["a"], "disk": [{"size": 20}]}, {"tags": ["b"], "disk": [{"size": 30}]}, Severity.HIGH),
]


@pytest.mark.parametrize(("code", "world", "severity"), WEIGHTS)
def test_severity_is_that_of_the_worst_attribute(code: Any, world: Any, severity: Severity) -> None:
    (one,) = found([item(VM, "update", code, world)], [item(VM, "update", world, code)])
    assert one.severity is severity


def test_guest_and_node_are_those_that_the_resource_is_for() -> None:
    vm = {"type": VM, "name": "gitlab", "values": memory(8192)}
    planned = {"planned_values": {"root_module": {"resources": [vm]}}}
    rules = item(RULES, "update", {"vm_id": 201, "x": 1}, {"vm_id": 201, "x": 2}, name="any")
    snippet = item(FILE, "create", None, {"node_name": "pve2"})
    by_id = {one.id: (one.guest, one.node) for one in found([], [rules, snippet], **planned)}
    assert by_id == {f"{RULES}.any": ("gitlab", "pve"), f"{FILE}.gitlab": ("gitlab", "pve2")}


def project(**service: Any) -> dict[str, Any]:
    idle = {"state": "running", "health": "none", "config_hash": "aa", "count": 1, "networks": ["up_front"], **service}
    return {"name": "web", "services": {"idle": idle}, "networks": ["up_front"]}


@pytest.mark.parametrize(
    ("outside", "text"),
    [
        (project(state="exited"), "state of service idle is exited, should be running"),
        (project(config_hash="bb"), "service idle differs in its configuration"),
        (project(count=2), "count of service idle is 2, should be 1"),
        (project(health="unhealthy"), "health of service idle is unhealthy, should be none"),
        (project() | {"services": {}}, "service idle is not there"),
        (project() | {"networks": []}, 'networks is [], should be ["up_front"]'),
        (project() | {"services": {**project()["services"], "old": {"state": "running"}}}, "service old is there, though"),
    ],
)
def test_containers_that_were_meddled_with_are_drift_with_a_readable_text(outside: Any, text: str) -> None:
    (one,) = found(
        [item(COMPOSE, "update", project(), outside, name="web")],
        [item(COMPOSE, "update", outside, project(), name="web")],
        layer="services",
    )
    assert (one.kind, one.guest) == (Kind.CHANGED, "docker")
    assert one.text.startswith("Compose project web: ")
    assert text in one.text


def test_a_new_secret_that_was_not_deployed_is_pending() -> None:
    old, new = project(content_hash="aa"), project(content_hash="bb")
    (one,) = found([], [item(COMPOSE, "update", old, new, name="web")], layer="services")
    assert (one.kind, "differs in its secrets or files" in one.text) == (Kind.PENDING, True)


def test_a_tag_that_was_moved_is_drift_and_a_new_one_in_the_code_is_not() -> None:
    old, new = project(image_id="sha256:aa"), project(image_id="sha256:bb")
    (moved,) = found([], [item(COMPOSE, "update", old, new, name="web")], layer="services")
    assert (moved.kind, "image_id of service idle is sha256:aa, should be sha256:bb" in moved.text) == (Kind.CHANGED, True)
    edited = [item(COMPOSE, "update", old | {"compose": "image: a:1"}, new | {"compose": "image: a:2"}, name="web")]
    (released,) = found([], edited, layer="services")
    assert released.kind is Kind.PENDING


def test_a_snippet_that_the_token_is_not_shown_is_hidden_and_a_guest_is_not() -> None:
    drifted = [item(FILE, "delete", {"node_name": "pve"}, None), item(VM, "delete", memory(1), None)]
    planned = [item(FILE, "create", None, {"node_name": "pve"}), item(VM, "create", None, memory(1))]
    by_kind = {one.kind: one for one in found(drifted, planned, lacking="Datastore.Allocate on /storage/local")}
    assert by_kind[Kind.HIDDEN].id.startswith(FILE)
    assert "Datastore.Allocate on /storage/local" in by_kind[Kind.HIDDEN].text
    assert by_kind[Kind.MISSING].id.startswith(VM)


def test_a_tainted_resource_says_that_its_creation_failed() -> None:
    (one,) = found([], [item(VM, "delete/create", memory(1), memory(1), reason="replace_because_tainted")])
    assert (one.kind, "its creation failed" in one.text) == (Kind.PENDING, True)
