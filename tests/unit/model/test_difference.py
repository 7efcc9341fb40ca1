"""What an update changes, attribute by attribute."""

from __future__ import annotations

from typing import Any

from labctl.model.difference import SNIPPET, attribute_changes, reaches_only_new_guests
from labctl.model.plan import ResourceChange, parse_plan
from labctl.model.policy import VM


def change(before: Any, after: Any, *actions: str, kind: str = VM, name: str = "gitlab", **more: Any) -> dict[str, Any]:
    return {
        "address": f"{kind}.{name}",
        "type": kind,
        "name": name,
        "mode": "managed",
        "change": {"actions": list(actions or ("update",)), "before": before, "after": after, **more},
    }


def parsed(*args: Any, **more: Any) -> ResourceChange:
    (found,) = parse_plan("platform", {"resource_changes": [change(*args, **more)]}).changes
    return found


def test_the_only_block_of_its_kind_needs_no_index_and_several_do() -> None:
    before = {"memory": [{"dedicated": 8192, "shared": 0}], "disk": [{"size": 20}, {"size": 200}], "name": "gitlab"}
    after = {"memory": [{"dedicated": 16384, "shared": 0}], "disk": [{"size": 20}, {"size": 300}], "name": "gitlab"}
    found = [(a.path, a.before, a.after) for a in attribute_changes(parsed(before, after))]
    assert found == [("disk[1].size", 200, 300), ("memory.dedicated", 8192, 16384)]


def test_a_list_of_plain_values_is_one_value_and_a_new_block_is_whole() -> None:
    before = {"tags": ["labctl"], "disk": [{"size": 20}]}
    after = {"tags": ["labctl", "lab"], "disk": [{"size": 20}, {"size": 5}]}
    found = [(a.path, a.before, a.after) for a in attribute_changes(parsed(before, after))]
    assert found == [("disk[1]", None, {"size": 5}), ("tags", ["labctl"], ["labctl", "lab"])]


def test_sensitive_values_never_come_out_however_they_are_marked() -> None:
    before = {"password": "old-value", "user": [{"token": "old-token", "name": "ops"}], "keys": ["k1"]}
    after = {"password": "new-value", "user": [{"token": "new-token", "name": "ops"}], "keys": ["k2"]}
    marks = {"password": True, "user": [{"token": True}], "keys": [True]}
    for sides in ({"before_sensitive": marks}, {"after_sensitive": marks}):
        found = attribute_changes(parsed(before, after, **sides))
        assert [a.path for a in found] == ["keys", "password", "user.token"]
        assert all(a.sensitive and a.before is None and a.after is None for a in found)
        assert "old-" not in repr(found)
        assert "new-" not in repr(found)
    whole = attribute_changes(parsed(before, after, after_sensitive=True))
    assert all(a.sensitive for a in whole)


def test_a_value_known_after_the_apply_says_so() -> None:
    found = attribute_changes(parsed({"ip": "192.0.2.5"}, {}, after_unknown={"ip": True}))
    assert [(a.path, a.before, a.after, a.unknown) for a in found] == [("ip", "192.0.2.5", None, True)]


def test_a_replacement_names_what_forces_it_and_leaves_out_what_is_computed_anew() -> None:
    item = parsed(
        {"id": "1", "source_raw": [{"data": "a"}]},
        {"source_raw": [{"data": "b"}]},
        "delete",
        "create",
        after_unknown={"id": True},
        replace_paths=[["source_raw", 0, "data"]],
    )
    assert [(a.path, a.replaces) for a in attribute_changes(item)] == [("source_raw.data", True)]


def test_a_create_and_a_delete_have_no_attribute_changes() -> None:
    assert attribute_changes(parsed(None, {"name": "x"}, "create")) == ()
    assert attribute_changes(parsed({"name": "x"}, None, "delete")) == ()


def test_an_edited_snippet_reaches_only_new_guests_unless_its_guest_is_made_anew() -> None:
    snippet = change({"d": 1}, {"d": 2}, "delete", "create", kind=SNIPPET)
    guest = change({"c": 1}, {"c": 2})
    anew = change({"c": 1}, {"c": 2}, "delete", "create")

    def plan(*items: dict[str, Any]) -> tuple[str, ...]:
        return reaches_only_new_guests(parse_plan("platform", {"resource_changes": list(items)}))

    assert plan(snippet) == ("gitlab",)
    assert plan(snippet, guest) == ("gitlab",)
    assert plan(snippet, anew) == ()
    assert plan(change(None, {"d": 1}, "create", kind=SNIPPET)) == ()
