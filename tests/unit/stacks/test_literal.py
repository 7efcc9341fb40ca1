from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.constructs.literal import Expression, arguments, literal, quoted
from tests.hcl import evaluate

TOKEN = "${TfToken[TOKEN.7]}"


pieces = st.lists(
    st.sampled_from(["$", "%", "{", "}", "a", "\n", '"', "\\", "${", "%{", "$${", "~", TOKEN]) | st.text(max_size=3)
)


@given(pieces)
def test_terraform_reads_back_exactly_the_text_and_the_tokens(parts: list[str]) -> None:
    text = "".join(parts)
    meant = re.sub(r"\$\{(TfToken\[TOKEN\.7\])\}", r"<\1>", text)
    assert evaluate(literal(text)) == meant


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain $HOME 100%", "plain $HOME 100%"),
        ("${HOME}", "$${HOME}"),
        ("%{if x}", "%%{if x}"),
        ("docker ps --format {{.Names}}", "docker ps --format {{.Names}}"),
        (f"https://{TOKEN}:8200", f"https://{TOKEN}:8200"),
        ("cost: $" + TOKEN, 'cost: ${"$"}' + TOKEN),
        ("cost: $$" + TOKEN, 'cost: ${"$$"}' + TOKEN),
    ],
)
def test_cases(text: str, escaped: str) -> None:
    assert literal(text) == escaped


def test_arguments_go_deep_leave_absent_ones_out_and_keep_expressions_and_numbers() -> None:
    value = {
        "a": None,
        "b": ["${x}", None, {"c": "%{y}", "d": None}],
        "e": Expression("null"),
        "f": 1,
        "g": False,
        "h": ("${z}",),
    }
    assert arguments(value) == {"b": ["$${x}", {"c": "%%{y}"}], "e": "${null}", "f": 1, "g": False, "h": ["$${z}"]}


def test_a_string_in_an_expression() -> None:
    assert quoted('a "b" ${c} ü') == '"a \\"b\\" $${c} ü"'
