"""A plan that is kept: it comes back as it was, and says when it is stale."""

from __future__ import annotations

import json

import pytest

from labctl.model.plan import Action, PlanSummary, ResourceChange, StackPlan, StackStatus
from labctl.model.savedplan import SavedStack, as_document, from_document, stale

CHANGES = (ResourceChange("a.b", "a", "b", Action.UPDATE), ResourceChange("a.c[0]", "a", "c", Action.REPLACE))
SAVED = SavedStack(
    StackPlan("web", "apps", StackStatus.CHANGES, PlanSummary("web", CHANGES, ("url",)), known_after=("net",)),
    content="hash",
    serial=3,
    lineage="line",
    file="web.saved-plan",
)


def test_it_comes_back_as_it_was_and_holds_no_value() -> None:
    with_values = ResourceChange("a.b", "a", "b", Action.UPDATE, before={"x": "secret"}, after={"x": "other"})
    plan = StackPlan("web", "apps", StackStatus.CHANGES, PlanSummary("web", (with_values, CHANGES[1]), ("url",)), ("net",))
    text = json.dumps(as_document("run", [SavedStack(plan, "hash", 3, "line", "web.saved-plan")]))
    assert "secret" not in text
    assert from_document(json.loads(text)) == (SAVED,)


@pytest.mark.parametrize("damaged", [{}, {"schema": 2, "stacks": []}, {"schema": 1, "stacks": [{"name": "web"}]}])
def test_what_is_none_is_refused(damaged: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_document(damaged)


def test_it_is_stale_where_anything_that_it_was_made_from_has_changed() -> None:
    assert stale(SAVED, "hash", 3, "line") == ""
    assert stale(SAVED, "other", 3, "line") == "its description has changed since"
    assert stale(SAVED, "hash", 4, "line") == "its state has changed since (serial 3, now 4)"
    assert stale(SAVED, "hash", 3, "another") == "its state is another one now"
    assert stale(SAVED, "hash", -1, "") == "its state is another one now"
