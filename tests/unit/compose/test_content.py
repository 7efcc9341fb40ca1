"""Which secrets and contents change the label of which service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from labctl.adapters.compose import ComposeInvalid
from labctl.adapters.compose.content import content_hash, marked, variables
from labctl.model.compose import CONTENT_LABEL, ComposeProject
from labctl.model.secret import Secret

KEY = Secret("key")
FILE = """
services:
  web:
    image: a
    secrets: [pw]
  worker:
    image: a
    labels: [one=1, flag]
    environment: {URL: "x:${TOKEN}@y"}
  conf:
    image: a
    labels: {two: 2}
    configs: [{source: main, target: /etc/main}]
  plain:
    image: a
    command: "echo $$PW $${TOKEN}"
secrets: {pw: {environment: PW}}
configs: {main: {content: "first ${IN_CONFIG}"}}
"""
SECRETS = {"PW": Secret("one"), "TOKEN": Secret("two"), "IN_CONFIG": Secret("three")}
PROJECT = ComposeProject("lab", FILE, SECRETS, KEY)


def labels(project: ComposeProject) -> dict[str, dict[str, Any]]:
    document = YAML(typ="safe", pure=True).load(marked(project))
    return {name: service.get("labels", {}) for name, service in document["services"].items()}


def changed(before: ComposeProject, after: ComposeProject) -> set[str]:
    one, other = labels(before), labels(after)
    return {name for name in one if one[name] != other[name]}


def test_labels_of_both_forms_stay() -> None:
    found = labels(PROJECT)
    assert {**found["worker"], CONTENT_LABEL: ""} == {"one": "1", "flag": "", CONTENT_LABEL: ""}
    assert {**found["conf"], CONTENT_LABEL: ""} == {"two": "2", CONTENT_LABEL: ""}
    assert found["plain"] == {}
    assert len(found["web"][CONTENT_LABEL]) == 64


@pytest.mark.parametrize(("name", "users"), [("PW", {"web"}), ("TOKEN", {"worker"}), ("IN_CONFIG", {"conf"})])
def test_a_rotated_secret_changes_its_users_only(name: str, users: set[str]) -> None:
    rotated = replace(PROJECT, secrets={**SECRETS, name: Secret("rotated")})
    assert changed(PROJECT, rotated) == users
    assert content_hash(rotated) != content_hash(PROJECT)
    assert "rotated" not in marked(rotated)


def test_a_changed_config_changes_its_users_only() -> None:
    assert changed(PROJECT, replace(PROJECT, text=FILE.replace("first", "second"))) == {"conf"}
    assert changed(PROJECT, replace(PROJECT, redeploy="now")) == {"web", "worker", "conf", "plain"}
    assert changed(PROJECT, PROJECT) == set()


def test_variables() -> None:
    assert variables("$A ${B} ${C:-x} $$D $${E} $$$F $1 ${G?no}") == {"A", "B", "C", "F", "G"}


@pytest.mark.parametrize(
    "line",
    [
        *("mode: 0440", "mode: 0o440", 'mode: "0440"', "value: 1_000", "value: 0b11", "value: 1e3", "value: 1.10"),
        *("value: 2024-01-01", "value: !reset null", "value: !override [a]", 'value: "0b11"', "value: '1_000'"),
    ],
)
def test_a_value_stays_as_it_is_written(line: str) -> None:
    text = f"services:\n  web:\n    image: a\n    {line}\n    secrets: [pw]\nsecrets: {{pw: {{environment: PW}}}}\n"
    assert f"\n    {line}\n" in marked(replace(PROJECT, text=text))


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("services: {web: {command: '${A} $B ${D:?no}'}}", "A, B, D"),
        ("services: {web: {command: '${A:-x} ${B-x} ${C:+x} ${D+x} $$E $${F}'}}", ""),
        ("services: {web: {secrets: [s]}}\nsecrets: {s: {environment: A}}", "A"),
        ("services: {web: {image: a}}\nconfigs: {c: {content: 'x $A'}}", "A"),
        ("services: {web: {image: '${PW}'}}\nx-more: $A # $B", ""),
    ],
)
def test_a_variable_without_a_secret_is_refused(text: str, missing: str) -> None:
    project = replace(PROJECT, text=text)
    if not missing:
        marked(project)
        return
    with pytest.raises(ComposeInvalid, match=f"takes {missing} from the environment"):
        marked(project)


def test_what_makes_containers_anew_is_no_variable() -> None:
    assert labels(replace(PROJECT, redeploy="$HOME"))["plain"] == {"labctl.redeploy": "$$HOME"}


@settings(max_examples=30)
@given(st.text(min_size=1), st.text(min_size=1))
def test_without_the_key_the_hash_is_another(key: str, value: str) -> None:
    project = replace(PROJECT, secrets={**SECRETS, "PW": Secret(value)})
    keyed, bare = replace(project, content_key=Secret(f"k{key}")), replace(project, content_key=None)
    assert content_hash(keyed) != content_hash(bare)
    assert labels(keyed)["web"] != labels(bare)["web"]


def test_without_secrets_there_is_no_hash() -> None:
    assert content_hash(replace(PROJECT, secrets={})) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not YAML: .*, line 1"),
        ("services:\n  web: {image: a\n", "not YAML: .*, line 3"),
        ("- a", "not a mapping"),
        ("", "not a mapping"),
        ("services: {}", "no services"),
        ("services: [a]", "no services"),
        ("services: {web: a}", r"services\.web is not a mapping"),
        ("services: {web: {secrets: 3}}", r"services\.web\.secrets is not a list"),
        ("services: {web: {labels: 3}}", r"services\.web\.labels is neither"),
        ("services: {web: {secrets: [a]}}\nsecrets: [a]", "secrets is not a mapping"),
    ],
)
def test_a_file_of_another_shape_is_refused(text: str, message: str) -> None:
    with pytest.raises(ComposeInvalid, match=message):
        marked(replace(PROJECT, text=text))
