"""Lines of `-json` commands as Terraform 1.11 and 1.15 wrote them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.adapters.terraform.diagnostics import Diagnostic, diagnostics_from_text
from labctl.adapters.terraform.events import (
    ChangeSummary,
    Complaint,
    Event,
    Log,
    OutputChange,
    Outputs,
    PlannedChange,
    ResourceDrift,
    ResourceProgress,
    Version,
    parse_line,
)

RESOURCE = (
    '{"addr":"terraform_data.a","module":"","resource":"terraform_data.a","implied_provider":"terraform",'
    '"resource_type":"terraform_data","resource_name":"a","resource_key":null}'
)
AT = "2026-11-22T04:07:11.528084Z"


def _line(message: str, rest: str, level: str = "info") -> str:
    return f'{{"@level":"{level}","@message":"{message}","@module":"terraform.ui","@timestamp":"{AT}",{rest}}}\n'


CASES: list[tuple[str, Event | None]] = [
    (
        _line("Terraform 1.11.4", '"terraform":"1.11.4","type":"version","ui":"1.2"'),
        Version("Terraform 1.11.4", "info", AT, "1.11.4", "1.2"),
    ),
    (
        _line("OpenTofu 1.10.0", '"tofu":"1.10.0","type":"version","ui":"1.2"'),
        Version("OpenTofu 1.10.0", "info", AT, "1.10.0", "1.2"),
    ),
    (
        _line("Plan to create", f'"change":{{"resource":{RESOURCE},"action":"create"}},"type":"planned_change"'),
        PlannedChange("Plan to create", "info", AT, "terraform_data.a", "terraform_data", "create"),
    ),
    (
        _line(
            "Plan to replace", f'"change":{{"resource":{RESOURCE},"action":"replace","reason":"tainted"}},"type":"planned_change"'
        ),
        PlannedChange("Plan to replace", "info", AT, "terraform_data.a", "terraform_data", "replace", "tainted"),
    ),
    (
        _line("Drift", f'"change":{{"resource":{RESOURCE},"action":"update"}},"type":"resource_drift"'),
        ResourceDrift("Drift", "info", AT, "terraform_data.a", "terraform_data", "update"),
    ),
    (
        _line(
            "Plan: 3 to add",
            '"changes":{"add":3,"change":0,"import":0,"remove":1,"action_invocation":0,"operation":"plan"},"type":"change_summary"',
        ),
        ChangeSummary("Plan: 3 to add", "info", AT, add=3, remove=1, operation="plan"),
    ),
    (
        _line("Creating...", f'"hook":{{"resource":{RESOURCE},"action":"create"}},"type":"apply_start"'),
        ResourceProgress("Creating...", "info", AT, "apply", "start", "terraform_data.a", "create"),
    ),
    (
        _line(
            "Still creating", f'"hook":{{"resource":{RESOURCE},"action":"create","elapsed_seconds":10}},"type":"apply_progress"'
        ),
        ResourceProgress("Still creating", "info", AT, "apply", "progress", "terraform_data.a", "create", elapsed_s=10),
    ),
    (
        _line(
            "Creation complete",
            f'"hook":{{"resource":{RESOURCE},"action":"create","id_key":"id","id_value":"98c0","elapsed_seconds":4}},'
            '"type":"apply_complete"',
        ),
        ResourceProgress("Creation complete", "info", AT, "apply", "complete", "terraform_data.a", "create", "98c0", 4),
    ),
    (
        _line(
            "Creation errored", f'"hook":{{"resource":{RESOURCE},"action":"create","elapsed_seconds":1}},"type":"apply_errored"'
        ),
        ResourceProgress("Creation errored", "info", AT, "apply", "errored", "terraform_data.a", "create", elapsed_s=1),
    ),
    (
        _line("Refreshing", f'"hook":{{"resource":{RESOURCE},"id_key":"id","id_value":"98c0"}},"type":"refresh_start"'),
        ResourceProgress("Refreshing", "info", AT, "refresh", "start", "terraform_data.a", id="98c0"),
    ),
    (
        _line("Refreshed", f'"hook":{{"resource":{RESOURCE},"id_key":"id","id_value":"98c0"}},"type":"refresh_complete"'),
        ResourceProgress("Refreshed", "info", AT, "refresh", "complete", "terraform_data.a", id="98c0"),
    ),
    (
        _line("Provisioning", f'"hook":{{"resource":{RESOURCE},"provisioner":"local-exec"}},"type":"provision_start"'),
        ResourceProgress("Provisioning", "info", AT, "provision", "start", "terraform_data.a"),
    ),
    (
        _line(
            "Outputs: 2",
            '"outputs":{"o":{"sensitive":false,"type":"string","value":"x"},"s":{"sensitive":true,"type":"string"}},"type":"outputs"',
        ),
        Outputs("Outputs: 2", "info", AT, {"o": OutputChange(False, "", "x"), "s": OutputChange(True)}),
    ),
    (
        _line(
            "Error: Invalid resource type",
            '"diagnostic":{"severity":"error","summary":"Invalid resource type","detail":"Did you mean?","address":"a.b",'
            '"range":{"filename":"main.tf.json","start":{"line":6,"column":105,"byte":753}}},"type":"diagnostic"',
            "error",
        ),
        Complaint(
            "Error: Invalid resource type",
            "error",
            AT,
            Diagnostic("error", "Invalid resource type", "Did you mean?", "a.b", "main.tf.json", 6),
        ),
    ),
    (_line("Initializing the backend...", '"type":"init_output"'), Log("Initializing the backend...", "info", AT, "init_output")),
    (_line("Stopping operation...", '"type":"log"'), Log("Stopping operation...", "info", AT)),
    (_line("New", '"type":"action_start","hook":{}'), Log("New", "info", AT, "action_start")),
    ("\x1b[0m\x1b[32m\n", None),
    ("\n", None),
    ("\x1b[0m\x1b[32mSuccessfully configured the backend\x1b[0m", Log("Successfully configured the backend")),
    ("[1, 2]", Log("[1, 2]")),
]


@pytest.mark.parametrize(("line", "event"), CASES)
def test_a_line_becomes_its_event(line: str, event: Event | None) -> None:
    assert parse_line(line) == event


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TYPES = ["version", "diagnostic", "planned_change", "resource_drift", "change_summary", "outputs", "apply_start", "log"]
PARTS = ["change", "changes", "hook", "diagnostic", "outputs"]


@given(st.sampled_from(TYPES), st.sampled_from(PARTS), JSON)
def test_a_shape_that_nobody_expects_is_still_an_event(kind: str, part: str, inner: object) -> None:
    for shape in (inner, {"resource": inner, "range": inner, "o": inner, "add": inner}):
        assert isinstance(parse_line(json.dumps({"@message": "m", "type": kind, part: shape})), Event)


@given(st.text())
def test_any_text_is_an_event_or_nothing(text: str) -> None:
    event = parse_line(text)
    assert event is None or event.message


def test_an_output_does_not_show_its_value() -> None:
    assert "hidden" not in repr(OutputChange(False, "", "hidden"))


TEXT = """\x1b[31m╷\x1b[0m
│ Warning: Unable to open CLI configuration file
│
│ The file does not exist.
╵
╷
│ Error: Extraneous JSON object property
│
│   with terraform_data.a,
│   on main.tf.json line 12, in resource.terraform_data.a:
│   12: {"resource":{}}
│
│ No argument or block type is named "inputt".
╵
"""


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("│ ", "").replace("│", "").replace("╷", "").replace("╵", "")])
def test_text_diagnostics_with_and_without_the_box(text: str) -> None:
    warning, error = diagnostics_from_text(text)
    assert warning == Diagnostic("warning", "Unable to open CLI configuration file", "The file does not exist.")
    assert error == Diagnostic(
        "error",
        "Extraneous JSON object property",
        'No argument or block type is named "inputt".',
        "terraform_data.a",
        "main.tf.json",
        12,
    )
    assert diagnostics_from_text("all is well\n") == ()
