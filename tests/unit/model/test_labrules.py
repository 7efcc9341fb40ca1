"""The rules that a lab adds to labctl's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from labctl.model.errors import UserError
from labctl.model.labfile import parse_lab
from labctl.model.labrules import LabRule, PlanAction, check_rule_stacks, lab_violations
from labctl.model.plan import COUNTED, parse_plan
from labctl.model.policy import evaluate, refuse
from labctl.model.violation import RULES

ROOT = Path(__file__).parents[3]
LAB = "name: lab\ntarget: {sandbox: {}}\npolicy:\n"
FIREWALL = "proxmox_virtual_environment_firewall_options"


def change(address: str, *actions: str, **more: Any) -> dict[str, Any]:
    kind, _, name = address.rpartition("[")[0].rpartition(".") if "[" in address else address.rpartition(".")
    return {
        "address": address,
        "type": kind,
        "name": name,
        "change": {"actions": list(actions), **more.pop("change", {})},
        **more,
    }


PLAN = parse_plan(
    "platform",
    {
        "resource_changes": [
            change("proxmox_download_file.image", "delete", "create"),
            change(f"{FIREWALL}.gitlab", "update"),
            change('terraform_data.a["x"]', "delete"),
            change("terraform_data.b", "no-op", previous_address="terraform_data.old"),
            change("terraform_data.c", "update", change={"importing": {"id": "7"}}),
            change("terraform_data.d", "forget"),
        ]
    },
)


def rule(**fields: Any) -> LabRule:
    return LabRule.model_validate({"id": "mine", **fields})


@pytest.mark.parametrize(
    ("fields", "addresses"),
    [
        ({"forbid": ["replace", "destroy"], "type": "proxmox_download_file"}, ["proxmox_download_file.image"]),
        ({"forbid": ["destroy"], "type": "proxmox_download_file"}, []),
        ({"forbid": ["change"], "type": "proxmox_virtual_environment_firewall_*"}, [f"{FIREWALL}.gitlab"]),
        ({"forbid": ["change"], "type": "*_option?"}, [f"{FIREWALL}.gitlab"]),
        ({"forbid": ["change"], "type": "proxmox_virtual_environment_firewall"}, []),
        ({"forbid": ["destroy"], "address": 'terraform_data.a["x"]'}, ['terraform_data.a["x"]']),
        ({"forbid": ["destroy"], "address": "terraform_data.a[x]"}, []),
        ({"forbid": ["move"]}, ["terraform_data.b"]),
        ({"forbid": ["import", "change"], "address": "*.c"}, ["terraform_data.c", "terraform_data.c"]),
        ({"forbid": ["forget"]}, ["terraform_data.d"]),
        ({"forbid": ["add"]}, []),
        ({"forbid": ["destroy"], "stack": "plat*"}, ['terraform_data.a["x"]']),
        ({"forbid": ["destroy"], "stack": "foundation"}, []),
    ],
)
def test_a_rule_finds_what_its_globs_and_actions_say(fields: dict[str, Any], addresses: list[str]) -> None:
    assert [one.address for one in lab_violations(PLAN, [rule(**fields)])] == addresses


def test_forbid_stops_the_run_and_consent_does_not_help() -> None:
    mine = rule(forbid=["replace"], type="proxmox_download_file", reason="images are shared")
    violations = evaluate(PLAN, protected=[], allowed=["proxmox_download_file.image"], rules=[mine])
    with pytest.raises(UserError, match=r"\[mine\] the plan replaces proxmox_download_file.image: images are shared") as caught:
        refuse("platform", violations)
    assert "also with --allow-destroy" in caught.value.hint


def test_warn_is_shown_and_goes_on() -> None:
    violations = evaluate(PLAN, protected=[], allowed=[], rules=[rule(warn=["change"], type=FIREWALL)])
    assert [(one.rule, one.warns, one.sentence) for one in violations] == [
        ("mine", True, f"the plan changes {FIREWALL}.gitlab"),
    ]
    refuse("platform", violations)


def test_the_actions_are_the_words_of_plan_json() -> None:
    assert get_args(PlanAction) == COUNTED


def test_a_rule_about_a_stack_that_is_not_there_is_refused() -> None:
    check_rule_stacks([rule(warn=["add"]), rule(warn=["add"], stack="found*")], ["foundation", "platform"], "lab.yaml")
    with pytest.raises(UserError) as caught:
        check_rule_stacks([rule(warn=["add"], stack="platfrom")], ["foundation", "platform"], "lab.yaml")
    assert "Did you mean 'platform'?" in caught.value.hint
    assert str(caught.value).startswith("lab.yaml: ")


BAD = {
    "unknown key": ("  - {id: a, forbid: [add], typ: x}", "lab.yaml:4: unknown key 'policy.0.typ'", "Did you mean 'type'?"),
    "unknown action": (
        "  - id: a\n    forbid:\n      - add\n      - destory",
        "lab.yaml:7: policy.0.forbid.1: found 'destory', allowed: add, change, replace, destroy, import, move, forget",
        "Did you mean 'destroy'?",
    ),
    "no list": ("  - {id: a, forbid: add}", "lab.yaml:4: policy.0.forbid: found 'add', allowed: a list", ""),
    "no action": ("  - {id: a, type: x}", "lab.yaml:4: policy.0: a rule has either forbid or warn", ""),
    "both": ("  - {id: a, forbid: [add], warn: [move]}", "policy.0: a rule has either forbid or warn", ""),
    "no id": ("  - {forbid: [add]}", "lab.yaml:4: policy.0.id is missing", ""),
    "id built in": (
        "  - {id: disk-shrink, forbid: [add]}",
        "lab.yaml:4: policy.0.id: 'disk-shrink' is a rule of labctl's own",
        "",
    ),
    "id twice": ("  - {id: a, forbid: [add]}\n  - {id: a, warn: [add]}", "lab.yaml:3: policy: the id 'a' is used 2 times", ""),
    "no rule": ("  - text", "lab.yaml:4: policy.0: found 'text'", ""),
    "no list of rules": ("  id: a", "lab.yaml:3: policy: found a mapping, allowed: a list", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_rule_is_answered_with_its_line(case: str) -> None:
    text, sentence, hint = BAD[case]
    with pytest.raises(UserError) as caught:
        parse_lab(LAB + text + "\n")
    assert sentence in str(caught.value)
    assert hint in caught.value.hint


def test_the_example_explains_every_key_of_a_rule() -> None:
    text = (ROOT / "examples" / "proxmox.yaml").read_text()
    explained = set(re.findall(r"^  # (\w+):", text.partition("\npolicy:")[2], flags=re.MULTILINE))
    assert explained == set(LabRule.model_fields)


def test_the_page_has_labctls_own_rules_as_the_code_has_them() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (.+?) \|$", page, flags=re.MULTILINE)
    assert rows == [(one.id, one.refuses, one.remedy) for one in RULES]


def test_the_pages_example_is_a_policy() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    (example,) = re.findall(r"```yaml\npolicy:\n(.*?)```", page, flags=re.DOTALL)
    assert [one.id for one in parse_lab(LAB + example).policy] == ["no-image-swap", "look-at-firewall"]
