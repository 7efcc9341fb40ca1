from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.constructs.literal import Expression, arguments, literal, quoted

TOKEN = "${TfToken[TOKEN.7]}"


def evaluate(template: str) -> str:
    """What Terraform makes of a template whose only interpolations are tokens and quoted dollars (HCL's template rules)."""
    out, rest = [], template
    while rest:
        if rest.startswith(("$${", "%%{")):
            out.append(rest[1:3])
            rest = rest[3:]
        elif match := re.match(r'\$\{"(\$+)"\}', rest):
            out.append(match.group(1))
            rest = rest[match.end() :]
        elif match := re.match(r"\$\{(TfToken\[TOKEN\.\d+\])\}", rest):
            out.append(f"<{match.group(1)}>")
            rest = rest[match.end() :]
        else:
            assert not rest.startswith(("${", "%{")), f"an interpolation that nobody wrote: {rest!r} in {template!r}"
            out.append(rest[0])
            rest = rest[1:]
    return "".join(out)


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
