"""Secrets from a real OpenBao: they reach the containers, and nothing that Terraform keeps or shows."""

from __future__ import annotations

import uuid
import zipfile

import pytest

from labctl.adapters.terraform import REATTACH_VARIABLE
from tests.dockercompose import docker
from tests.integration.provider.conftest import KEY, SECRETS, WEB, OpenVault, Run
from tests.ownprovider import Stack, one_line
from tests.processes import watched

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("provider")]


def test_a_rotated_secret_is_a_planned_change_and_its_value_is_nowhere(web: Stack, vault: OpenVault) -> None:
    traced = {"TF_LOG": "trace", "TF_LOG_PATH": str(web.folder / "trace.log")}
    before, other = web.containers("web"), web.containers("idle")
    assert web.in_container("web", "cat", "/run/secrets/password") == vault.password
    vault.rotate(f"canary-7be04-{uuid.uuid4()}\nand its second line")
    with watched() as seen:
        shown = web.plan(**traced)
        assert "~ content_hash" in shown
        assert "will be updated in-place" in shown
        shown += web.run("show", "plan") + web.run("show", "-json", "plan")
        shown += web.apply_plan(**traced)
    web.settled()
    assert web.in_container("web", "cat", "/run/secrets/password") == vault.password
    assert web.containers("web") != before
    assert web.containers("idle") == other, "who does not use it goes on running"

    with zipfile.ZipFile(web.folder / "plan") as archive:
        parts = {f"plan/{name}": archive.read(name) for name in archive.namelist()}
    parts |= {path.name: path.read_bytes() for path in web.folder.iterdir() if path.is_file() and path.name != "plan"}
    assert {"plan/tfplan", "terraform.tfstate", "terraform.tfstate.backup", "trace.log"} <= set(parts)
    parts |= {
        "shown": (shown + web.run("show", "-json")).encode(),
        "inspect": docker("inspect", *web.containers()).encode(),
        "arguments": b"\n".join(seen),
    }
    assert b"docker-compose" in parts["arguments"]
    for name, content in parts.items():
        for secret in ("canary-7be04", KEY, vault.token.reveal()):
            assert secret.encode() not in content, name


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("services/none#password", "there is no secret 'services/none'"),
        ("services/web#passwort", "Did you mean 'password'?"),
        ('services/it\'s "one"#password', "there is no secret"),
        ("services/web", "Write path#field."),
    ],
    ids=["path", "field", "quotes", "no reference"],
)
def test_a_reference_that_names_nothing_is_no_plan(stack: Stack, reference: str, said: str) -> None:
    stack.write(WEB, secrets={"PASSWORD": reference})
    found = stack.refused("plan")
    assert said in found, found
    assert '"PASSWORD": "services/' in found, "it is pointed at"


def test_a_vault_that_is_sealed_between_plan_and_apply(web: Stack, vault: OpenVault) -> None:
    before = web.state()
    web.write(WEB.replace("V: one", "V: two"), secrets=SECRETS)
    web.plan()
    vault.seal()
    try:
        for words in (("apply", "plan"), ("plan",)):
            said = web.refused(*words)
            assert "the Vault is sealed" in said
            assert "labctl vault unseal" in said
            assert '"secrets"' in said
    finally:
        vault.unseal()
    assert web.state() == before
    web.write(WEB, secrets=SECRETS)
    web.settled()


def test_a_vault_that_refuses_or_is_not_named(web: Stack, stack: Stack, run: Run) -> None:
    refused = {REATTACH_VARIABLE: run(VAULT_TOKEN="hvs.not-one-of-this-vault").reattach}
    stack.write(WEB, secrets=SECRETS)
    planned = one_line(stack.plan(**refused))
    assert "Warning: " in planned
    assert "permission denied" in planned
    for said in (stack.fails(**refused), web.refused("plan", **refused)):
        assert "permission denied" in said
        assert '"secrets"' in said
    assert (stack.containers(), stack.state()) == ([], None)
    unnamed = {REATTACH_VARIABLE: run(VAULT_ADDR="").reattach}
    assert "VAULT_ADDR" in web.refused("plan", **unnamed)
    # It needs no secret to be taken down, only to be compared.
    web.run("destroy", "-auto-approve", "-refresh=false", **unnamed)
    assert web.containers() == []
