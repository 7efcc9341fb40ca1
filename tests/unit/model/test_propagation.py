"""Planning a stack as if its upstreams had been applied."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from labctl.model.propagation import PlannedOutputs, planned_outputs, propagate

DOWNSTREAM = {
    "data": {
        "terraform_remote_state": {"up": {"backend": "local", "config": {"path": "x"}}, "other": {"backend": "local"}},
    },
    "locals": {"own": "${data.terraform_remote_state.up.outputs.a}"},
    "resource": {
        "terraform_data": {
            "r": {
                "input": ["${data.terraform_remote_state.up.outputs.a}-${data.terraform_remote_state.other.outputs.a}"],
                "triggers_replace": "${data.terraform_remote_state.upper.outputs.a}",
            }
        }
    },
    "terraform": {"backend": {"s3": {"bucket": "b"}}, "required_providers": {}},
}


def test_references_become_locals_and_only_those_of_the_upstream() -> None:
    changed = propagate(DOWNSTREAM, {"up": PlannedOutputs({"a": "x"})})
    assert changed["resource"]["terraform_data"]["r"] == {
        "input": ["${local.labctl_planned_up.a}-${data.terraform_remote_state.other.outputs.a}"],
        "triggers_replace": "${data.terraform_remote_state.upper.outputs.a}",
    }
    assert changed["locals"] == {"own": "${local.labctl_planned_up.a}", "labctl_planned_up": {"a": "x"}}
    assert changed["data"] == {"terraform_remote_state": {"other": {"backend": "local"}}}
    # Its state lies in the scratch folder itself.
    assert changed["terraform"] == {"required_providers": {}}


def test_a_reference_may_be_a_key() -> None:
    document = {"resource": {"x": {"r": {"auth": {"${data.terraform_remote_state.up.outputs.a}": "path"}}}}}
    changed = propagate(document, {"up": PlannedOutputs({"a": "host:1"})})
    assert changed["resource"]["x"]["r"] == {"auth": {"${local.labctl_planned_up.a}": "path"}}


def test_an_output_that_the_upstream_lacks_is_the_remote_states_default() -> None:
    document = {"data": {"terraform_remote_state": {"up": {"backend": "local", "defaults": {"a": "default", "b": "kept"}}}}}
    changed = propagate(document, {"up": PlannedOutputs({"a": "x"})})
    assert changed["locals"] == {"labctl_planned_up": {"a": "x", "b": "kept"}}


def test_the_original_is_left_alone() -> None:
    before = json.dumps(DOWNSTREAM)
    propagate(DOWNSTREAM, {"up": PlannedOutputs({"a": "x"}, {"b": True})})
    assert json.dumps(DOWNSTREAM) == before


def test_unknown_values_refer_to_a_resource_that_does_not_exist_yet() -> None:
    planned = PlannedOutputs({"g": {"vmid": 7}, "l": ["a", None]}, {"id": True, "g": {"ip": True}, "l": [False, True]})
    changed = propagate(DOWNSTREAM, {"up": planned})
    unknown = "${terraform_data.labctl_unknown.id}"
    assert changed["locals"]["labctl_planned_up"] == {"g": {"vmid": 7, "ip": unknown}, "l": ["a", unknown], "id": unknown}
    assert set(changed["resource"]["terraform_data"]) == {"r", "labctl_unknown"}
    known = propagate(DOWNSTREAM, {"up": PlannedOutputs({"a": 1})})
    assert set(known["resource"]["terraform_data"]) == {"r"}


def test_outputs_of_a_plan() -> None:
    document = {
        "output_changes": {
            "kept": {"actions": ["no-op"], "after": "k", "after_unknown": False},
            "new": {"actions": ["create"], "after": {"a": 1}, "after_unknown": {"b": True}},
            "later": {"actions": ["update"], "before": "x", "after_unknown": True},
            "gone": {"actions": ["delete"], "after": None, "after_unknown": False},
        }
    }
    found = planned_outputs(document)
    assert found == PlannedOutputs({"kept": "k", "new": {"a": 1}}, {"new": {"b": True}, "later": True})
    assert not found.complete


def test_a_plan_on_the_states_stands_only_where_the_outputs_stay() -> None:
    assert PlannedOutputs({"a": 1}).same_as({"a": 1})
    assert not PlannedOutputs({"a": 1}).same_as({"a": 2})
    assert not PlannedOutputs({"a": 1}).same_as(None)
    assert not PlannedOutputs({"a": 1}, {"b": True}).same_as({"a": 1})


leaves = st.none() | st.booleans() | st.integers() | st.text(alphabet="ab${}%")
values: Any = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.dictionaries(st.text(alphabet="abc", min_size=1), values))
def test_known_values_are_literal(outputs: dict[str, Any]) -> None:
    local = propagate(DOWNSTREAM, {"up": PlannedOutputs(outputs)})["locals"]["labctl_planned_up"]

    def unescaped(node: Any) -> Any:
        if isinstance(node, dict):
            return {unescaped(k): unescaped(v) for k, v in node.items()}
        if isinstance(node, list):
            return [unescaped(v) for v in node]
        return node.replace("$${", "${").replace("%%{", "%{") if isinstance(node, str) else node

    # Text that already looks escaped cannot be told apart by this test's own way back.
    if not any(escaped in json.dumps(outputs) for escaped in ("$${", "%%{")):
        assert unescaped(local) == outputs
