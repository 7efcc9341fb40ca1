"""What a Terraform process gets of the caller's environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labctl.adapters.terraform.environment import (
    COLLECT_LATE,
    SMALL_STACK_BYTES,
    base_environment,
    late_collection,
    masking,
    terraform_environment,
)
from labctl.model.secret import MASK, Secret

SHELL = {
    "PATH": "/usr/bin",
    "HOME": "/home/operator",
    "HTTPS_PROXY": "http://192.0.2.1:3128",
    "SSL_CERT_FILE": "/etc/ca.pem",
    "SSL_CERT_DIR": "/etc/certs",
    "TF_CLI_ARGS": "-lock=false",
    "TF_CLI_CONFIG_FILE": "/nowhere",
    "TF_WORKSPACE": "other",
    "TF_DATA_DIR": "/tmp",
    "TF_LOG": "TRACE",
    "AWS_PROFILE": "other",
    "AWS_CA_BUNDLE": "/etc/ca.pem",
    "PROXMOX_VE_API_TOKEN": "somebody's",
    "PYTHONPATH": "/src",
}


def _environment(given: dict[str, str | Secret]) -> dict[str, str]:
    return terraform_environment(SHELL, given, home=Path("/lab/home"), cli_config=Path("/lab/terraformrc"))


def test_only_named_variables_pass() -> None:
    assert _environment({}) == {
        "PATH": "/usr/bin",
        "HOME": "/lab/home",
        "HTTPS_PROXY": "http://192.0.2.1:3128",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "SSL_CERT_DIR": "/etc/certs",
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "AWS_EC2_METADATA_DISABLED": "true",
        "TF_CLI_CONFIG_FILE": "/lab/terraformrc",
    }


def test_the_caller_wins_and_secrets_are_in_clear_only_here() -> None:
    env = _environment({"PATH": "/bin", "PROXMOX_VE_API_TOKEN": Secret("labctl@pve!ci=0000")})
    assert env["PATH"] == "/bin"
    assert env["PROXMOX_VE_API_TOKEN"] == "labctl@pve!ci=0000"


def test_a_pinned_authority_is_not_widened_by_the_inherited_one() -> None:
    env = _environment({"SSL_CERT_FILE": "/lab/ca.pem"})
    assert env["SSL_CERT_FILE"] == "/lab/ca.pem"
    assert "SSL_CERT_DIR" not in env


def test_the_base_keeps_the_home() -> None:
    assert base_environment(SHELL)["HOME"] == "/home/operator"


def test_secret_values_are_masked_but_not_short_or_plain_ones() -> None:
    given = {"A": Secret("correct-horse"), "B": Secret("abc"), "C": "not-a-secret"}
    assert masking(given)("correct-horse abc not-a-secret correct-horse") == f"{MASK} abc not-a-secret {MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "PVEAPIToken=labctl@pve!ci=4f1d-0000-beef was refused",
        "the value 4f1d-0000-beef was refused",
        json.dumps({"detail": "key is\n-----BEGIN KEY-----\nQUJDREVGR0hJSktMTU5P\nUFFSU1RVVldYWVowMTIz\n-----END KEY-----\n"}),
        "│ -----BEGIN KEY-----\n│ QUJDREVGR0hJSktMTU5P\n│ UFFSU1RVVldYWVowMTIz\n│ -----END KEY-----",
        json.dumps('said "quoted\\word"'),
    ],
)
def test_what_a_provider_may_quote_of_a_secret_is_masked(text: str) -> None:
    given = {
        "TOKEN": Secret("labctl@pve!ci=4f1d-0000-beef"),
        "KEY": Secret("-----BEGIN KEY-----\nQUJDREVGR0hJSktMTU5P\nUFFSU1RVVldYWVowMTIz\n-----END KEY-----\n"),
        "WORD": Secret('"quoted\\word"'),
    }
    shown = masking(given)(text)
    assert MASK in shown
    assert not any(part in shown for part in ("beef", "QUJD", "UFFS", "quoted"))


def test_short_commands_of_small_stacks_run_without_garbage_collection(tmp_path: Path) -> None:
    document = tmp_path / "cdk.tf.json"
    document.write_text("{}")
    assert late_collection(SHELL, {}, document) == COLLECT_LATE
    document.write_text("x" * (SMALL_STACK_BYTES + 1))
    assert late_collection(SHELL, {}, document) == {}
    assert late_collection(SHELL, {}, tmp_path / "absent.json") == {}


@pytest.mark.parametrize("name", ["GOGC", "GOMEMLIMIT"])
def test_what_the_user_has_set_for_go_stays(tmp_path: Path, name: str) -> None:
    document = tmp_path / "cdk.tf.json"
    document.write_text("{}")
    assert late_collection({**SHELL, name: "50"}, {}, document) == {}
    assert late_collection(SHELL, {name: "50"}, document) == {}
