from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from labctl.model.contracts import Contract
from labctl.model.errors import UserError
from stacks.cdk import App, TerraformStack
from stacks.constructs import Upstream, local_state, publish


class Thing(BaseModel):
    size: int


class ThingContract(Contract):
    layer: ClassVar[str] = "things"

    url: str
    ports: list[int]
    count: int | None
    things: dict[str, Thing]


VALUES: dict[str, Any] = {"url": "https://example.com/${x}", "ports": [1, 2], "count": 3, "things": {"a": {"size": 1}}}


@pytest.fixture
def stack(tmp_path: Path) -> TerraformStack:
    return TerraformStack(App(outdir=str(tmp_path / "out"), skip_validation=True, stack_traces=False), "above")


def synthesised(stack: TerraformStack) -> dict[str, Any]:
    return dict(stack.to_terraform())


def test_publish_names_outputs_as_the_contract_does(stack: TerraformStack) -> None:
    publish(stack, ThingContract, VALUES)
    outputs = synthesised(stack)["output"]
    assert set(outputs) == {"url", "ports", "count", "things"}
    assert outputs["url"]["value"] == "https://example.com/$${x}"
    assert outputs["things"]["value"] == {"a": {"size": 1}}


def test_publish_refuses_what_the_contract_does_not_name(stack: TerraformStack) -> None:
    with pytest.raises(UserError, match=r"things: ThingContract has no field 'urll'") as caught:
        publish(stack, ThingContract, {**VALUES, "urll": "x"})
    assert "Did you mean 'url'?" in caught.value.hint


def test_publish_refuses_to_leave_a_field_out(stack: TerraformStack) -> None:
    with pytest.raises(UserError, match=r"ThingContract\.ports is not published"):
        publish(stack, ThingContract, {key: value for key, value in VALUES.items() if key != "ports"})


def test_upstream_gives_references_into_the_state_below(stack: TerraformStack) -> None:
    below = Upstream(ThingContract, local_state(stack, "things", "../../state/things.tfstate"))
    stack.add_override(
        "locals",
        {
            "text": f"<{below.string('url')}>",
            "number": below.number("count"),
            "list": below.list("ports"),
            "map": below.map("things"),
            "entry": below.entry("things", "a", "size"),
        },
    )
    document = synthesised(stack)
    root = "data.terraform_remote_state.things.outputs"
    assert document["data"]["terraform_remote_state"]["things"]["config"] == {"path": "../../state/things.tfstate"}
    assert document["locals"] == {
        "text": f"<${{{root}.url}}>",
        "number": f"${{{root}.count}}",
        "list": f"${{{root}.ports}}",
        "map": f"${{{root}.things}}",
        "entry": f"${{{root}.things.a.size}}",
    }


@pytest.mark.parametrize(
    ("accessor", "name", "message", "hint"),
    [
        ("string", "urll", "ThingContract has no field 'urll'", "Did you mean 'url'?"),
        ("string", "ports", r"ThingContract.ports is list, asked for as str", ".list('ports')"),
        ("number", "url", r"ThingContract.url is str, asked for as int or float", ".string('url')"),
        ("list", "things", r"ThingContract.things is dict, asked for as list", ".map('things')"),
        ("map", "count", r"ThingContract.count is int, asked for as dict", ".number('count')"),
    ],
)
def test_upstream_refuses_a_wrong_name_or_type(stack: TerraformStack, accessor: str, name: str, message: str, hint: str) -> None:
    below = Upstream(ThingContract, local_state(stack, "things", "x"))
    with pytest.raises(UserError, match=message) as caught:
        getattr(below, accessor)(name)
    assert hint in caught.value.hint
