"""Reading plans, and the rules over them."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.model.errors import UserError
from labctl.model.inventory import Foreign
from labctl.model.plan import Action, StackPlan, StackStatus, parse_plan
from labctl.model.policy import VM, check_allowed, evaluate, planned_vmids, refuse
from labctl.model.scope import beyond


def item(address: str, *actions: str, kind: str = "terraform_data", **sides: Any) -> dict[str, Any]:
    return {
        "address": address,
        "type": kind,
        "name": address.rsplit(".", 1)[-1],
        "mode": "managed",
        "change": {"actions": list(actions), "before": sides.get("before"), "after": sides.get("after")},
    }


def vm(name: str, *actions: str, vmid: int = 201, size: int = 20, was: int = 20) -> dict[str, Any]:
    def side(gib: int) -> dict[str, Any]:
        return {"name": name, "vm_id": vmid, "disk": [{"interface": "virtio0", "size": gib}]}

    return item(f"{VM}.{name}", *actions, kind=VM, before=side(was), after=None if actions == ("delete",) else side(size))


def plan(*items: dict[str, Any], outputs: dict[str, Any] | None = None) -> Any:
    return parse_plan("platform", {"resource_changes": list(items), "output_changes": outputs or {}})


def test_counts_leave_out_what_stays_and_data_sources() -> None:
    data = item("data.x.y", "read") | {"mode": "data"}
    summary = plan(
        item("a.a", "create"),
        item("a.b", "update"),
        item("a.c", "delete", "create"),
        item("a.d", "create", "delete"),
        item("a.e", "delete"),
        item("a.f", "no-op"),
        data,
    )
    assert summary.counts() == {"add": 1, "change": 1, "replace": 2, "destroy": 1}
    assert len(summary.changes) == 5


def test_a_plan_with_only_an_output_is_not_empty() -> None:
    assert plan().empty
    assert plan(outputs={"x": {"actions": ["no-op"]}}).empty
    assert not plan(outputs={"x": {"actions": ["update"]}}).empty


def test_a_moved_or_imported_resource_is_a_change() -> None:
    moved = item("a.b", "no-op") | {"previous_address": "a.a"}
    imported = item("a.c", "no-op")
    imported["change"]["importing"] = {"id": "7"}
    assert [c.address for c in plan(moved, imported).changes] == ["a.b", "a.c"]


@pytest.mark.parametrize(("actions", "word"), [(("delete",), "destroys"), (("delete", "create"), "makes anew")])
def test_a_protected_guest_needs_consent_by_name(actions: tuple[str, ...], word: str) -> None:
    summary = plan(vm("gitlab", *actions))
    (violation,) = evaluate(summary, protected=["gitlab"], allowed=[])
    assert word in violation.sentence
    with pytest.raises(UserError, match="protected-guest") as caught:
        refuse("platform", [violation])
    assert "--allow-destroy gitlab" in caught.value.hint
    assert evaluate(summary, protected=["gitlab"], allowed=["gitlab"]) == []
    assert evaluate(summary, protected=["gitlab"], allowed=[f"{VM}.gitlab"]) == []
    assert evaluate(summary, protected=["vault"], allowed=[]) == []
    assert len(evaluate(summary, protected=["gitlab"], allowed=["vault"])) == 1


def test_all_consents_are_asked_for_at_once() -> None:
    violations = evaluate(plan(vm("gitlab", "delete"), vm("docker", "delete")), protected=["gitlab", "docker"], allowed=[])
    with pytest.raises(UserError) as caught:
        refuse("platform", violations)
    assert "--allow-destroy gitlab --allow-destroy docker" in caught.value.hint


def test_a_shrinking_disk_is_refused_and_a_growing_one_is_not() -> None:
    assert [v.rule for v in evaluate(plan(vm("gitlab", "update", size=10)), protected=[], allowed=[])] == ["disk-shrink"]
    assert evaluate(plan(vm("gitlab", "update", size=30)), protected=[], allowed=[]) == []


def test_a_foreign_guest_stops_the_run_with_its_name() -> None:
    summary = plan(vm("gitlab", "create"), vm("docker", "delete", "create", vmid=202))
    assert planned_vmids(summary) == {201: "gitlab"}
    violations = evaluate(summary, protected=[], allowed=[], foreign=[Foreign(201, "gitlab", "photos", "pve", "qemu")])
    with pytest.raises(UserError, match="'photos'"):
        refuse("platform", violations)


def test_consent_to_an_unknown_guest_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        check_allowed(["gitlib"], ["gitlab", "docker"])
    assert "Did you mean 'gitlab'?" in caught.value.hint


def shown(status: StackStatus, *items: dict[str, Any]) -> StackPlan:
    return StackPlan("platform", "platform", status, plan(*items))


def test_what_was_confirmed_is_what_happens() -> None:
    confirmed = shown(StackStatus.CHANGES, item("a.a", "update"), item("a.b", "delete", "create"))
    assert beyond(confirmed, shown(StackStatus.CHANGES, item("a.a", "update"))) == ()
    assert beyond(confirmed, shown(StackStatus.CHANGES, item("a.b", "update"))) == ()
    (worse,) = beyond(confirmed, shown(StackStatus.CHANGES, item("a.a", "delete", "create")))
    assert "a.a: replace, confirmed was update" in worse
    (new,) = beyond(confirmed, shown(StackStatus.CHANGES, item("a.c", "create")))
    assert "a.c" in new


def test_a_new_stack_covers_creates_only() -> None:
    confirmed = StackPlan("platform", "platform", StackStatus.NOT_DEPLOYED)
    assert beyond(confirmed, shown(StackStatus.CHANGES, item("a.a", "create"))) == ()
    assert len(beyond(confirmed, shown(StackStatus.CHANGES, item("a.a", "delete")))) == 1
    assert Action.DELETE.value == "delete"
