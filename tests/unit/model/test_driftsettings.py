"""`drift:` in lab.yaml."""

from __future__ import annotations

import pytest

from labctl.model.driftsettings import DriftSettings, webhook_of
from labctl.model.errors import UserError
from labctl.model.labfile import parse_lab

HEAD = "name: lab\ntarget: {sandbox: {}}\n"


def test_all_of_it_may_be_left_out() -> None:
    assert parse_lab(HEAD).drift == DriftSettings(gitlab_project="", webhook="", unmanaged="lab")


def test_all_of_it() -> None:
    text = HEAD + "drift: {gitlab_project: Ops/Drift, webhook: 'https://hooks.example.com/x?token=t', unmanaged: all}\n"
    found = parse_lab(text).drift
    assert (found.gitlab_project, found.unmanaged) == ("ops/drift", "all")
    assert "token" not in repr(found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("gitlab_project: drift", "'drift' is no full path of a project: write group/name"),
        ("gitlab_project: https://git.example.com/a/b", "is no full path of a project"),
        ("webhook: hooks.example.com/T0P-SECRET", "drift.webhook: it is no URL: write https://host/path"),
        ("webhook: 'ftp://example.com/T0P-SECRET'", "it is no URL"),
        ("webhook: 'https://example.com:T0P-SECRET/'", "it is no URL"),
        ("unmanaged: some", "drift.unmanaged: found 'some', allowed: lab, all"),
        ("gitlab: x/y", "unknown key 'drift.gitlab'"),
    ],
)
def test_what_is_wrong_is_told_without_the_url(line: str, message: str) -> None:
    with pytest.raises(UserError) as found:
        parse_lab(f"{HEAD}drift:\n  {line}\n")
    assert message in str(found.value)
    assert str(found.value).startswith("lab.yaml:4")
    assert "T0P-SECRET" not in str(found.value) + found.value.hint


@pytest.mark.parametrize(
    ("variable", "url"),
    [(None, "https://example.com/a"), ("https://example.com/b", "https://example.com/b"), ("", None)],
)
def test_the_environment_overrides(variable: str | None, url: str | None) -> None:
    found = webhook_of(DriftSettings(webhook="https://example.com/a"), variable)
    assert (found.reveal() if found else None) == url
