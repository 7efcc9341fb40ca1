"""What a change concerns, and the note that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from labctl.model.plan import Action, PlanSummary, ResourceChange, StackPlan, StackStatus
from labctl.model.review import DESCRIPTION, Change, Review, ReviewedStack, Why, by_files, compare, widget
from labctl.model.reviewnote import marker, note
from labctl.model.violation import Violation

PLACES = {
    "foundation": ".labctl/lab/stacks/foundation",
    "platform": ".labctl/lab/stacks/platform",
    "web": ".labctl/lab/stacks/web",
}
CONTEXT = json.dumps({"resource": {"image": {"web": {"context": '${abspath("../../../../layers/apps/web")}'}}}})
BASE = {"foundation": '{"a": 1}', "platform": '{"b": [1, 2]}', "web": CONTEXT}


@pytest.mark.parametrize(
    ("after", "files", "reasons", "gone", "others"),
    [
        pytest.param(BASE, (), {}, (), (), id="nothing"),
        pytest.param(BASE | {"platform": '{"b":  [1,2]}'}, ("lab.yaml",), {}, (), ("lab.yaml",), id="only its layout"),
        pytest.param(BASE | {"platform": '{"b": [2, 1]}'}, ("lab.yaml",), {"platform": (DESCRIPTION,)}, (), (), id="a value"),
        pytest.param(BASE, ("layers/apps/web/app.py",), {"web": ("layers/apps/web/app.py",)}, (), (), id="a source"),
        pytest.param(BASE, ("layers/apps/webx/app.py",), {}, (), ("layers/apps/webx/app.py",), id="beside a source"),
        pytest.param(BASE | {"new": "{}"}, ("stacks/new.py",), {"new": (DESCRIPTION,)}, (), (), id="a new stack"),
        pytest.param({"foundation": '{"a": 1}'}, ("lab.yaml",), {}, ("platform", "web"), ("lab.yaml",), id="stacks gone"),
        pytest.param(
            BASE | {"foundation": "{}"},
            ("README.md", "stacks/foundation.py"),
            {"foundation": (DESCRIPTION,)},
            (),
            ("README.md",),
            id="code and words",
        ),
    ],
)
def test_what_a_change_concerns(
    after: dict[str, str], files: tuple[str, ...], reasons: dict[str, Any], gone: tuple[str, ...], others: tuple[str, ...]
) -> None:
    assert compare(BASE, after, files, PLACES | {"new": ".labctl/lab/stacks/new"}, "lab.yaml") == Change(reasons, gone, others)


@pytest.mark.parametrize(
    ("path", "concerns"),
    [
        ("lab.yaml", True),
        ("stacks/constructs/vm.py", True),
        ("layers/gitlab/gitlab.rb", True),
        ("src/labctl/model/lab.py", True),
        ("uv.lock", True),
        ("src/labctl/cli/up.py", False),
        ("docs/layers.md", False),
        ("other/lab.yaml", False),
    ],
)
def test_without_a_base_the_rules_over_files_name_all_or_none(path: str, concerns: bool) -> None:
    found = by_files(("foundation", "platform"), (path,), "lab.yaml", "it has a mistake")
    assert set(found.reasons) == ({"foundation", "platform"} if concerns else set())
    assert "it has a mistake" in found.caveat


def change(action: Action, address: str = "proxmox_virtual_environment_vm.docker", **more: Any) -> ResourceChange:
    kind, _, name = address.partition(".")
    return ResourceChange(address, kind, name, action, **more)


MEMORY = change(
    Action.UPDATE,
    before={"memory": [{"dedicated": 1024}], "password": "old-secret", "description": "a\nb\n"},
    after={"memory": [{"dedicated": 2048}], "password": "new-secret", "description": "a\n```\nc\n"},
    before_sensitive={"password": True},
    after_sensitive={"password": True},
)


def stack(name: str, *changes: ResourceChange, why: Why = Why.CHANGED, **more: Any) -> ReviewedStack:
    status = StackStatus.CHANGES if changes else StackStatus.NO_CHANGES
    return ReviewedStack(StackPlan(name, name, status, PlanSummary(name, changes)), why, (DESCRIPTION,), **more)


REFUSED = Violation(
    "protected-guest", "x", "it would destroy guest 'docker' @all.", "Add `--allow-destroy docker`.", consent="docker"
)
REVIEW = Review(
    "lab",
    "0123456789abcdef",
    "fedcba9876543210",
    Change({"platform": (DESCRIPTION,)}, gone=("old",), others=("README.md",)),
    (
        stack("foundation", why=Why.NEEDED),
        stack("platform", MEMORY, change(Action.REPLACE, "terraform_data.x"), violations=(REFUSED,)),
        replace(
            stack("apps", why=Why.FOLLOWS),
            plan=StackPlan("apps", "apps", StackStatus.ERROR, reason="no | such * thing"),
            hint="Look at it.",
        ),
    ),
    artifact=True,
)


def test_the_note_is_as_agreed(golden: Callable[[str, str], None]) -> None:
    golden("review/note.md", note(REVIEW, link="https://gitlab.example.com/lab/-/jobs/7") + "\n")


def test_no_secret_is_in_the_note_and_no_fence_ends_early() -> None:
    text = note(REVIEW)
    assert "old-secret" not in text
    assert "new-secret" not in text
    assert "password: (sensitive) → (sensitive)" in text
    assert "\n````diff\n" in text


def test_nobody_is_mentioned_by_what_a_rule_says() -> None:
    assert " @all" not in note(REVIEW)
    assert "\\@all" in note(REVIEW)


@pytest.mark.parametrize("limit", [2_000, 5_000, 20_000])
@pytest.mark.parametrize("count", [1, 30, 1000])
def test_a_note_that_is_too_long_is_cut_and_says_where_the_rest_is(limit: int, count: int) -> None:
    stacks = tuple(stack(f"stack-{n}", *[change(Action.CREATE, f"terraform_data.r{i}") for i in range(60)]) for n in range(count))
    text = note(replace(REVIEW, stacks=stacks), limit=limit, link="https://gitlab.example.com/jobs/7")
    assert len(text) <= limit
    assert text.startswith(marker("lab"))
    assert text.endswith("</sub>")
    assert text.count("<details") == text.count("</details>")
    whole = note(replace(REVIEW, stacks=stacks), limit=10_000_000)
    assert ("[the job](https://gitlab.example.com/jobs/7)" in text) == (len(whole) > limit)
    assert text.count("```") % 2 == 0


def test_a_review_is_fine_only_where_everything_is() -> None:
    fine = replace(REVIEW, stacks=(stack("platform", MEMORY),))
    assert fine.fine
    assert replace(REVIEW, stacks=(stack("platform", MEMORY, violations=(replace(REFUSED, warns=True),)),)).fine
    assert not replace(REVIEW, stacks=(stack("platform", MEMORY, violations=(REFUSED,)),)).fine
    assert not replace(REVIEW, stacks=REVIEW.stacks[2:]).fine


def test_the_widget_counts_a_replacement_as_both() -> None:
    assert widget(one.plan for one in REVIEW.stacks) == {"create": 1, "update": 1, "delete": 1}
    assert widget(()) == {"create": 0, "update": 0, "delete": 0}
