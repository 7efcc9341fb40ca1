"""Reading plans, and the rules over them."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.engine.planning import counts_text, describe
from labctl.model.errors import UserError
from labctl.model.inventory import Foreign
from labctl.model.plan import Action, StackPlan, StackStatus, parse_plan
from labctl.model.policy import CONTAINER, VM, check_allowed, evaluate, planned_vmids, refuse
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
    assert summary.counts() == {"add": 1, "change": 1, "replace": 2, "destroy": 1, "import": 0, "move": 0, "forget": 0}
    assert len(summary.changes) == 5


def test_what_is_imported_moved_and_forgotten_is_counted_too() -> None:
    imported, moved = item("a.a", "update"), item("a.c", "no-op") | {"previous_address": "a.b"}
    imported["change"]["importing"] = {"id": "7"}
    summary = plan(imported, moved, item("a.d", "forget"))
    assert {word: n for word, n in summary.counts().items() if n} == {"change": 1, "import": 1, "move": 1, "forget": 1}
    assert StackPlan("platform", "platform", StackStatus.ERROR).as_dict()["import"] == 0
    assert counts_text(summary) == "~1 ←1 →1 .1"
    assert describe(summary) == " (1 to change, 1 to import, 1 to move, 1 to forget)"


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
    assert len(evaluate(summary, protected=["gitlab"], allowed=["vault"])) == 1


def rules_of(*items: dict[str, Any], protected: tuple[str, ...] = (), allowed: tuple[str, ...] = ()) -> list[str]:
    return [one.rule for one in evaluate(plan(*items), protected=protected, allowed=allowed)]


POOL, IMAGE, ZFS = "proxmox_virtual_environment_pool", "proxmox_download_file", "proxmox_node_disk_zfs"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (vm("old", "delete"), ["stateful-resource"]),
        (vm("old", "delete", "create"), ["stateful-resource"]),
        (vm("old", "forget"), []),
        (item(f"{CONTAINER}.proxy", "delete", kind=CONTAINER, before={}), ["stateful-resource"]),
        (item(f"{ZFS}.tank", "create", "delete", kind=ZFS, before={}), ["stateful-resource"]),
        (item(f"{ZFS}.tank", "update", kind=ZFS, before={}), []),
        (item(f"{IMAGE}.image", "delete", "create", kind=IMAGE, before={}), []),
        (item(f"{POOL}.lab", "delete", kind=POOL, before={}), []),
    ],
    ids=lambda value: value["address"] + "-" + "-".join(value["change"]["actions"]) if isinstance(value, dict) else None,
)
def test_what_holds_data_needs_consent_by_address(change: dict[str, Any], found: list[str]) -> None:
    assert rules_of(change) == found
    assert rules_of(change, allowed=(change["address"],)) == []
    if found:
        with pytest.raises(UserError) as caught:
            refuse("platform", evaluate(plan(change), protected=[], allowed=[]))
        assert f"--allow-destroy {change['address']}" in caught.value.hint


def test_an_address_is_quoted_for_the_shell() -> None:
    with pytest.raises(UserError) as caught:
        refuse("apps", evaluate(plan(item(f'{ZFS}.a["x"]', "delete", kind=ZFS)), protected=[], allowed=[]))
    assert f"--allow-destroy '{ZFS}.a[\"x\"]'" in caught.value.hint


TAINTED = {"action_reason": "replace_because_tainted"}


def test_a_tainted_guest_is_named_as_such_and_untaint_comes_first() -> None:
    change = vm("gitlab", "delete", "create") | TAINTED
    (violation,) = evaluate(plan(change), protected=["gitlab"], allowed=[])
    assert violation.rule == "tainted-guest"
    assert "because it is tainted" in violation.sentence
    with pytest.raises(UserError) as caught:
        refuse("platform", [violation])
    assert caught.value.hint.index("labctl untaint gitlab") < caught.value.hint.index("--allow-destroy gitlab")
    assert rules_of(change, protected=("gitlab",), allowed=("gitlab",)) == []
    # The reason must be the taint: another one makes it an ordinary replacement.
    other = change | {"action_reason": "replace_because_cannot_update"}
    assert rules_of(other, protected=("gitlab",)) == ["protected-guest"]
    # Outside the lab's guests it is called by its address.
    (outside,) = evaluate(plan(change), protected=[], allowed=[])
    assert f"labctl untaint {VM}.gitlab" in outside.remedy
    # What holds no data may be made anew.
    assert rules_of(item(f"{IMAGE}.image", "delete", "create", kind=IMAGE) | TAINTED) == []


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


def test_consent_to_an_unknown_address_is_answered_with_the_nearest_that_holds_data() -> None:
    addresses = [f"{VM}.gitlab", f"{VM}.docker", f"{IMAGE}.image", f"module.a.{ZFS}.tank[0]"]
    check_allowed([f"{VM}.gitlab", f"{IMAGE}.image", "gitlab"], ["gitlab"], addresses)
    check_allowed([f"{VM}.gitlib"], ["gitlab"])
    with pytest.raises(UserError) as caught:
        check_allowed([f"{VM}.gitlib"], ["gitlab"], addresses)
    assert f"Did you mean '{VM}.gitlab'?" in caught.value.hint
    assert f"module.a.{ZFS}.tank[0]" in caught.value.hint
    assert IMAGE not in caught.value.hint


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
