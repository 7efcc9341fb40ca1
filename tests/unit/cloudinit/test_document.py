from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from labctl.cloudinit import document
from labctl.cloudinit.document import parse, render
from labctl.cloudinit.part import Account, GuestFile, Part
from labctl.model.errors import LabError

# What YAML 1.1 can hold at all: no surrogates, no control characters but the line's.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("\n\t:#'\"\\&*!%@`-?|>{}[],~=$"))


@given(TEXT, TEXT, st.lists(TEXT, min_size=1), TEXT)
@example("on", "0644", ["no", "12:30", "~", "=", "y"], "null")
@example("a: b", " leading", ["- x", "#c", "trailing "], "\n\nx")
@example("\u2028", "\x85", ["\ufeff", "\U0001f600"], "a\n b \n")
@example("${TfToken[TOKEN.7]}", "x\n${TfToken[TOKEN.8]}\n", ["${TfToken[TOKEN.9]} y"], "%{ if }")
def test_any_text_is_read_back_as_cloud_init_reads_it(setting: str, content: str, command: list[str], shell: str) -> None:
    part = Part(
        settings={"timezone": setting},
        accounts=(Account("ops", ssh_keys=(setting,)),),
        packages=(shell,),
        files=(GuestFile("/f", content),),
        commands=(tuple(command), shell),
    )
    text = render(part)
    assert text.startswith("#cloud-config\n")
    tree = yaml.safe_load(text)  # cloud-init's own parser
    assert tree["timezone"] == setting
    assert tree["users"][0]["ssh_authorized_keys"] == [setting]
    assert tree["packages"] == [shell]
    assert tree["write_files"][0]["content"] == content
    assert tree["runcmd"] == [command, shell]
    assert parse(text) == tree


@given(st.text(st.characters(categories=["L", "Nd"]), min_size=200, max_size=400), st.integers(0, 99))
def test_a_token_is_in_the_text_as_it_was_given(filler: str, number: int) -> None:
    token = f"${{TfToken[TOKEN.{number}]}}"
    part = Part(files=(GuestFile("/f", f"{filler} {token} {filler}\n"),), commands=((filler, token),))
    assert render(part).count(token) == 2


def test_words_that_yaml_1_1_takes_for_something_else_are_quoted() -> None:
    text = render(Part(packages=("on", "No", "y", "null", "true", "1e3", "0o7", "plain-name")))
    assert yaml.safe_load(text)["packages"] == ["on", "No", "y", "null", "true", "1e3", "0o7", "plain-name"]
    assert "  - plain-name\n" in text


def test_permissions_are_quoted_and_text_is_a_block() -> None:
    text = render(Part(files=(GuestFile("/f", "one\ntwo\n", mode="0600"),)))
    assert 'permissions: "0600"' in text
    assert "content: |\n      one\n      two\n" in text


def test_a_text_that_reads_back_differently_is_never_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    emit = document.yaml_text
    monkeypatch.setattr(document, "yaml_text", lambda tree: emit(tree).replace("0600", "0644"))
    with pytest.raises(LabError, match="does not read back"):
        render(Part(files=(GuestFile("/f", "x", mode="0600"),)))
