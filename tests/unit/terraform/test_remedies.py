"""Diagnostics as recorded from real engines, providers and stores, and what labctl makes of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.terraform.diagnostics import Diagnostic, LockInfo, diagnostics_from_text, lock_info
from labctl.adapters.terraform.errors import TerraformCancelled, TerraformError
from labctl.adapters.terraform.remedies import RULES, explain, weightiest
from labctl.adapters.terraform.result import CommandResult

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "diagnostics.json").read_text(encoding="utf-8"))


def _diagnostic(case: dict[str, Any]) -> Diagnostic:
    return Diagnostic(case["severity"], case["summary"], case["detail"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_recorded_diagnostic_gets_its_remedy(case: dict[str, Any]) -> None:
    remedy = explain(_diagnostic(case))
    if not case["rule"]:
        assert remedy is None
        return
    assert remedy is not None
    assert remedy.rule == case["rule"]
    for word in case["says"]:
        assert word in remedy.sentence
    assert case["hint"] in remedy.hint
    assert "{" not in remedy.sentence + remedy.hint
    assert "  " not in remedy.sentence


def test_every_rule_has_a_recorded_case() -> None:
    assert {rule.id for rule in RULES} | {"state-locked"} == {case["rule"] for case in CASES} - {""}


def test_wrapped_lines_of_text_output_match_too() -> None:
    # Without JSON, Terraform wraps at 78 columns inside its box.
    text = (
        "╷\n│ Error: Failed to install provider\n│ \n│ Error while installing bpg/proxmox v0.111.1: the local package for\n"
        "│ registry.terraform.io/bpg/proxmox 0.111.1 doesn't match any of the\n│ checksums previously recorded in the file\n╵\n"
    )
    (diagnostic,) = diagnostics_from_text(text)
    remedy = explain(diagnostic)
    assert remedy is not None
    assert remedy.rule == "provider-checksum"


def test_a_refused_lock_is_not_taken_for_the_holders() -> None:
    # What Terraform prints of the `http` backend is its own attempt: who, when and operation would be this very run's.
    (case,) = (case for case in CASES if case["name"] == "http lock held")
    assert lock_info(case["detail"]) == LockInfo(id="11111111-2222-3333-4444-555555555555")


def test_a_lock_is_read_whole() -> None:
    lock = lock_info(CASES[1]["detail"])
    assert lock is not None
    assert (lock.id, lock.who, lock.operation, lock.created, lock.path) == (
        "b7060280-075d-c732-9ca5-cc59e36ba5bc",
        "root@lab.example.com",
        "plan",
        "2026-11-22 04:17:58 UTC",
        "terraform/state/x/terraform.tfstate",
    )
    assert lock_info("Lock Info:\n  Who: nobody\n") is None
    assert lock_info("nothing") is None


def _failed(*diagnostics: Diagnostic, exit_code: int = 1, stderr: str = "") -> CommandResult:
    return CommandResult(("terraform", "apply", "-json", "p"), exit_code, (), diagnostics, stderr_tail=stderr)


OWN = Diagnostic(
    "error",
    "web did not become healthy; mlserver is back on registry/mlserver@sha256:1",
    "Why: web: health is unhealthy\nIts last lines:\n  panic: dial tcp 192.0.2.1:9092: connect: connection refused\n"
    + "  and more\n" * 50
    + "The next apply tries the release again.",
    address="labctl_compose_project.mlserver",
)


def test_what_labctls_own_provider_says_is_told_as_it_is_and_whole() -> None:
    error = TerraformError("mlserver", _failed(OWN))
    assert str(error) == f"mlserver: labctl_compose_project.mlserver: {OWN.summary}"
    assert error.hint == OWN.detail
    alone = TerraformError("mlserver", _failed(replace(OWN, detail="")))
    assert "run the command again" in alone.hint


@pytest.mark.parametrize("address", ["labctl_image.web", 'module.x["a"].labctl_compose_project.web[0]'])
def test_a_log_in_what_it_says_is_none_of_the_rules_business(address: str) -> None:
    assert explain(replace(OWN, address=address)) is None
    assert explain(replace(OWN, address="proxmox_virtual_environment_vm.labctl_image")) is not None


def test_what_terraform_says_at_one_of_its_resources_still_is() -> None:
    remedy = explain(Diagnostic("error", "Plugin did not respond", "panic", address=OWN.address))
    assert remedy is not None
    assert remedy.rule == "provider-crash"


def test_it_is_shown_before_what_follows_from_it() -> None:
    echo = Diagnostic("error", "Missing resource instance key", "", address="local_file.x")
    assert weightiest([echo, OWN]) is OWN


def test_the_error_names_stack_resource_sentence_and_hint() -> None:
    refused = Diagnostic(
        "error",
        "VM create",
        "received an HTTP 403 response - Reason: Permission check failed (/vms/201, VM.Allocate)",
        "proxmox_virtual_environment_vm.gitlab",
    )
    error = TerraformError(
        "platform", _failed(Diagnostic("warning", "old name"), refused, Diagnostic("error", "execution halted"))
    )
    assert str(error) == (
        "platform: proxmox_virtual_environment_vm.gitlab: The token lacks the privilege VM.Allocate on /vms/201."
    )
    assert error.rule == "pve-permission"
    assert "pveum" in error.hint
    assert error.diagnostic is refused


def test_a_cause_goes_before_its_consequences() -> None:
    halted, crashed = Diagnostic("error", "execution halted"), Diagnostic("error", "Plugin did not respond")
    unknown, quorum = Diagnostic("error", "something odd"), Diagnostic("error", "no quorum")
    assert weightiest([halted, crashed, unknown, quorum]) is quorum
    assert weightiest([halted, crashed, unknown]) is unknown
    assert weightiest([halted, crashed]) is crashed
    assert weightiest([Diagnostic("warning", "no quorum")]) is None


def test_other_errors_are_counted_once_each() -> None:
    one, two = Diagnostic("error", "first"), Diagnostic("error", "second")
    assert TerraformError("s", _failed(one, two, two)).message == "first (and 1 more)"


def test_an_unknown_error_keeps_its_own_words_and_its_place() -> None:
    error = TerraformError("apps", _failed(Diagnostic("error", "Invalid", "detail here", file="cdk.tf.json", line=7)))
    assert error.message == "Invalid (cdk.tf.json line 7): detail here"
    assert "run the command again" in error.hint


def test_a_silent_failure_says_what_is_known() -> None:
    assert "exit code 3" in TerraformError("s", _failed(exit_code=3)).message
    killed = TerraformError("s", _failed(exit_code=-9, stderr="last words"))
    assert "SIGKILL" in killed.message
    assert "last words" in killed.message


def test_a_cancelled_command_does_not_blame_a_resource() -> None:
    error = TerraformCancelled("platform", _failed(Diagnostic("error", "killed", address="terraform_data.slow")))
    assert error.rule == "interrupted"
    assert str(error).startswith("platform: Terraform was interrupted")
    assert "go on" in error.hint


def test_a_held_lock_is_on_the_error() -> None:
    error = TerraformError("platform", _failed(_diagnostic(CASES[0])))
    assert error.lock is not None
    assert error.lock.who == "root@lab.example.com"


def test_a_locked_state_names_the_command_for_its_stack() -> None:
    error = TerraformError("platform", _failed(_diagnostic(CASES[1])))
    assert f"`labctl unlock platform --id {error.lock.id if error.lock else ''}`" in error.hint
    assert "force-unlock" not in error.hint


@pytest.mark.parametrize("case", [case for case in CASES if case["rule"]], ids=lambda case: case["name"])
def test_a_project_that_is_no_lab_is_not_sent_to_one(case: dict[str, Any]) -> None:
    result = CommandResult(("terraform", "plan"), 1, diagnostics=(replace(_diagnostic(case), severity="error"),))
    error = TerraformError("web", result, lab=False)
    assert error.rule == case["rule"]
    assert not re.search(r"labctl|lab\.yaml|Vault|sandbox|foundation", error.hint)
    assert error.hint
