"""Which failures pass by themselves, over the recorded diagnostics and over wordings of Proxmox VE's sources."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.terraform.diagnostics import Diagnostic
from labctl.adapters.terraform.transient import TRANSIENTS, is_transient, passing_faults

HERE = Path(__file__).parent
RECORDED: list[dict[str, Any]] = json.loads((HERE / "diagnostics.json").read_text(encoding="utf-8"))
CASES: list[dict[str, str]] = json.loads((HERE / "transients.json").read_text(encoding="utf-8"))
PASSING = {
    "no quorum": "no-quorum",
    "lock timeout": "lock-file-timeout",
    "node unreachable": "node-proxy",
    "proxy timeout": "node-proxy",
}
"""The recorded diagnostics that pass by themselves; all others do not."""


def error(text: str) -> Diagnostic:
    return Diagnostic("error", text)


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["name"])
def test_each_recorded_diagnostic_is_judged(case: dict[str, Any]) -> None:
    found = passing_faults([Diagnostic("error", case["summary"], case["detail"])])
    wanted = PASSING.get(case["name"])
    assert [one.id for one in found] == ([wanted] if wanted else [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_wording_is_judged(case: dict[str, str]) -> None:
    found = passing_faults([error(case["text"])])
    assert [one.id for one in found] == ([case["rule"]] if case["rule"] else [])
    assert [one.words for one in found] == ([case["words"]] if case["rule"] else [])


def test_every_rule_has_a_case_and_a_reason() -> None:
    assert {case["rule"] for case in CASES} - {""} == {rule.id for rule in TRANSIENTS}
    assert all(rule.why for rule in TRANSIENTS)


QUORUM = error("received an HTTP 500 response - Reason: cluster not ready - no quorum?")
REFUSED = error("received an HTTP 403 response - Reason: Permission check failed (/nodes/pve, Sys.Audit)")


def test_one_error_that_stays_makes_the_whole_command_one_that_stays() -> None:
    assert is_transient([QUORUM])
    assert not is_transient([QUORUM, REFUSED])
    assert not is_transient([REFUSED])


def test_a_warning_and_the_echo_of_a_failure_do_not_count() -> None:
    halted = error("execution halted")
    assert is_transient([Diagnostic("warning", "something is deprecated"), QUORUM, halted])
    assert not is_transient([halted])
    assert not is_transient([])
    assert not is_transient([Diagnostic("warning", QUORUM.summary)])


def test_the_last_of_several_attempts_tells() -> None:
    attempts = "All attempts fail:\n#1: error creating VM: {}\n#2: error creating VM: {}"
    assert is_transient([Diagnostic("error", "VM create", attempts.format(REFUSED.summary, QUORUM.summary))])
    assert not is_transient([Diagnostic("error", "VM create", attempts.format(QUORUM.summary, REFUSED.summary))])


def test_what_was_met_is_told_once_a_resource() -> None:
    first, second = (Diagnostic("error", QUORUM.summary, address=f"a.{name}") for name in "ab")
    assert [(one.id, one.address) for one in passing_faults([first, first, second])] == [
        ("no-quorum", "a.a"),
        ("no-quorum", "a.b"),
    ]


def test_what_a_containers_log_says_makes_nothing_pass() -> None:
    said = Diagnostic("error", "web did not come up", "Its last lines:\n  HTTP 503 response - Reason: busy")
    assert is_transient([said])
    assert not is_transient([replace(said, address="labctl_compose_project.web")])
