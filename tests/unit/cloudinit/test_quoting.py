from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.cloudinit.quoting import environment, hcl, ruby
from labctl.model.errors import UserError
from tests.needs import needed

LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("\\'\"`$#{}!%()"))
FEW = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
NASTY = ["it's", "\\", "\\'", "#{1+1}", '"', "$(id)", "`id`", "${HOME}", "a\\\\", "", "ü 漢字 😀", "!x", "%d"]


@FEW
@given(st.lists(LINE, min_size=1).map(lambda lines: NASTY + lines))
def test_ruby_reads_the_value(values: list[str]) -> None:
    program = "# encoding: utf-8\nrequire 'json'\nputs JSON.generate([" + ",".join(ruby(value) for value in values) + "])"
    done = subprocess.run([needed("ruby", "ruby"), "-"], input=program, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == values


@FEW
@given(st.lists(LINE, min_size=1).map(lambda lines: NASTY + lines))
def test_a_shell_reads_the_value(tmp_path: Path, values: list[str]) -> None:
    file = tmp_path / "env"
    file.write_text("".join(f"V{n}={environment(value)}\n" for n, value in enumerate(values)))
    names = " ".join(f'"$V{n}"' for n in range(len(values)))
    done = subprocess.run(["bash", "-c", f". {file}; printf '%s\\0' {names}"], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == values


@given(LINE)
def test_an_hcl_string_ends_where_it_should(value: str) -> None:
    quoted = hcl(value)
    inner = quoted[1:-1]
    assert quoted[0] == quoted[-1] == '"'
    assert json.loads(quoted) == value if value.isprintable() and "\x7f" not in value else True
    assert inner.replace("\\\\", "").replace('\\"', "").count('"') == 0


@pytest.mark.parametrize("quote", [ruby, hcl, environment])
def test_a_token_is_not_touched(quote: Callable[[str], str]) -> None:
    token = "${TfToken[TOKEN.7]}"
    assert quote(token)[1:-1] == token
    assert quote(f"$'\"\\{token}'$\"\\").count(token) == 1


def test_what_only_looks_like_a_token_is_escaped() -> None:
    assert environment("${HOME}") == '"\\${HOME}"'


@pytest.mark.parametrize("quote", [ruby, hcl, environment])
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x00b", "\x1b[0m", "\u2028"])
def test_more_than_a_line_is_refused(quote: Callable[[str], str], value: str) -> None:
    with pytest.raises(UserError, match="control character"):
        quote(value)
