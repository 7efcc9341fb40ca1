"""A token's rights: enough as documented, named when they are missing, mended by what the refusal says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from labctl.adapters.proxmox import PermissionMissing, gather
from labctl.adapters.terraform import BPG_PROXMOX, Terraform, ensure_provider, find_engine, write_cli_config
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.preflight import checks, refusal
from labctl.model.privileges import roles, setup_commands
from labctl.model.secret import Secret
from labctl.model.stackcontext import StackContext
from labctl.synth import synthesise

from .conftest import NINE, Pve

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("proxmox")]

REPOSITORY = Path(__file__).parents[3]
GPU = (
    '{vga_path: "0000:01:00.0", vga_id: "10de:2204", vga_subsystem_id: "10de:147d", vga_iommu_group: 14, '
    'audio_path: "0000:01:00.1", audio_id: "10de:1aef", audio_subsystem_id: "10de:147d", audio_iommu_group: 14}'
)


def failures(pve: Pve, lab: Lab, token_id: str, value: Secret) -> tuple[UserError | None, set[str]]:
    with pve.client(token_id, value) as client:
        found = checks(gather(client, lab), lab)
    return refusal(found), {check.id for check in found if check.verdict == "fail"}


def test_the_sandbox_passes_the_preflight(client, lab):
    facts = gather(client, lab)
    found = checks(facts, lab)
    assert refusal(found) is None
    assert [check.id for check in found if check.verdict == "warn"] == ["firewall"]
    assert facts.clock_skew_s is not None
    assert abs(facts.clock_skew_s) < 3


def test_the_documented_rights_are_enough(pve, lab, documented):
    assert failures(pve, lab, *documented) == (None, set())


def test_the_documented_rights_are_enough_for_the_real_provider(pve, tmp_path):
    """Both layers, with a GPU: made, unchanged at the second plan, and removed without a trace, by a token as documented."""
    lab = parse_lab(f"name: rights\ntarget: {{sandbox: {{network: 127.86.79.0/24}}}}\nplatform: {{docker: {{gpu: {GPU}}}}}\n")
    token_id, value = "provider@pve!labctl", pve.token("provider@pve")
    for command in setup_commands(lab, NINE, token_id):
        pve.pveum(command)
    before = pve.client(token_id, value).resources()
    layers = provider_on(lab, pve, tmp_path, {"PROXMOX_VE_API_TOKEN": Secret(f"{token_id}={value.reveal()}")})
    for terraform in layers:
        plan = tmp_path / f"{terraform.stack}.plan"
        assert terraform.plan(plan).changes
        terraform.apply(plan)
        assert not terraform.plan(plan).changes, terraform.stack
    for terraform in reversed(layers):
        plan = tmp_path / f"{terraform.stack}.plan"
        terraform.plan(plan, destroy=True)
        terraform.apply(plan)
    with pve.client() as client:
        assert client.resources() == before
        assert client.volumes("pve", "local") == ()
        assert "rights" not in {pool.name for pool in client.pools()}


def test_a_token_that_only_looks_sees_all_that_a_plan_needs(pve, tmp_path):
    """PVEAuditor alone is not shown snippets: Terraform would make them again. The role of docs/drift-proxmox.md mends that."""
    lab = parse_lab("name: looking\ntarget: {sandbox: {network: 127.86.79.0/24}}\n")
    token_id, value = "maker@pve!labctl", pve.token("maker@pve")
    for command in setup_commands(lab, NINE, token_id):
        pve.pveum(command)
    makers = provider_on(lab, pve, tmp_path, {"PROXMOX_VE_API_TOKEN": Secret(f"{token_id}={value.reveal()}")})
    for terraform in makers:
        terraform.plan(tmp_path / f"{terraform.stack}.plan")
        terraform.apply(tmp_path / f"{terraform.stack}.plan")
    looker, secret = "looker@pve!labctl", pve.token("looker@pve")
    pve.pveum(f"pveum acl modify / --users looker@pve --tokens '{looker}' --roles PVEAuditor")

    def refused() -> str:
        with pve.client(looker, secret) as client:
            error = refusal(checks(gather(client, lab), lab, {101, 102, 201, 202}), reading=True)
        return error.message if error else ""

    def planned() -> set[str]:
        found = set()
        for terraform in layers:
            plan = tmp_path / f"{terraform.stack}.plan"
            terraform.plan(plan, lock=False)
            changes = terraform.show_plan(plan)["resource_changes"]
            found |= {change["type"] for change in changes if change["change"]["actions"] != ["no-op"]}
        return found

    with_token = {"PROXMOX_VE_API_TOKEN": Secret(f"{looker}={secret.reveal()}")}
    layers = provider_on(lab, pve, tmp_path, with_token)
    assert refused() == "the API token has too few rights; missing: Datastore.Allocate on /storage/local"
    assert planned() == {"proxmox_virtual_environment_file"}
    pve.pveum('pveum role add LabctlDriftFiles --privs "Datastore.Allocate Datastore.Audit"')
    pve.pveum(f"pveum acl modify /storage/local --users looker@pve --tokens '{looker}' --roles LabctlDriftFiles")
    assert (refused(), planned()) == ("", set())
    for terraform in reversed(makers):
        terraform.plan(tmp_path / f"{terraform.stack}.plan", destroy=True)
        terraform.apply(tmp_path / f"{terraform.stack}.plan")


def provider_on(lab: Lab, pve: Pve, folder: Path, environment: dict[str, Secret]) -> tuple[Terraform, ...]:
    """Terraform for both layers, each with a local state."""
    (folder / "state").mkdir(exist_ok=True)
    synthesis = synthesise(StackContext(lab=lab, authority_pem="", state_dir=folder / "state", outdir=folder / "out"))
    engine = find_engine()
    mirror = Path(os.environ.get("LABCTL_MIRROR") or REPOSITORY / ".cache" / "labctl" / "mirror")
    ensure_provider(mirror, BPG_PROXMOX, host=engine.registry_host)
    write_cli_config(folder / "cli.tfrc", mirror)
    environment |= {
        "PROXMOX_VE_SSH_USERNAME": Secret(pve.info.ssh_username),
        "PROXMOX_VE_SSH_PRIVATE_KEY": Secret(pve.info.ssh_private_key_file.read_text()),
        "SSL_CERT_FILE": Secret(str(pve.info.ca_file)),
    }
    layers = []
    for stack in synthesis.stacks:
        document = json.loads(stack.json.read_text())
        document["terraform"]["backend"] = {"local": {"path": str(folder / "state" / f"{stack.name}.tfstate")}}
        for source in document.get("data", {}).get("terraform_remote_state", {}).values():
            source.update(backend="local", config={"path": str(folder / "state" / "foundation.tfstate")})
        stack.json.write_text(json.dumps(document))
        layers.append(
            Terraform(
                engine, stack.folder, stack=stack.name, home=folder / "home", cli_config=folder / "cli.tfrc", env=environment
            )
        )
        layers[-1].init()
    return tuple(layers)


def test_a_token_without_rights_is_told_all_that_it_lacks(pve, lab):
    value = pve.token("nobody@pve")
    error, failed = failures(pve, lab, "nobody@pve!labctl", value)
    assert error is not None
    for named in ("VM.Allocate on /vms", "Datastore.AllocateSpace on /storage/local-lvm", "SDN.Use on", "Pool.Allocate on"):
        assert named in error.message
    assert "pveum acl modify /vms --users nobody@pve" in error.hint
    assert len([one for one in failed if one.startswith("right.")]) >= 20


def test_what_the_refusal_says_to_run_mends_it(pve, lab):
    token_id, value = "mended@pve!labctl", pve.token("mended@pve", privsep=1)
    error, _ = failures(pve, lab, token_id, value)
    assert error is not None
    commands = [part.strip() for line in error.hint.splitlines() if "pveum" in line for part in line.split(";")]
    assert commands
    for command in dict.fromkeys(commands):
        pve.pveum(command)
    assert failures(pve, lab, token_id, value) == (None, set())


@pytest.mark.parametrize("role", ["LabctlNode", "LabctlPool", "LabctlGuests", "LabctlFiles", "LabctlDisks", "LabctlBridge"])
def test_each_role_is_missed_when_it_is_taken_away(pve, lab, documented, role):
    token_id, value = documented
    privileges, paths = roles(lab, NINE)[role]
    grants = [{"path": path, "users": "documented@pve", "tokens": token_id, "roles": role} for path in paths]
    for grant in grants:
        pve.call("PUT", "access/acl", delete=1, **grant)
    try:
        error, failed = failures(pve, lab, token_id, value)
    finally:
        for grant in grants:
            pve.call("PUT", "access/acl", **grant)
    assert error is not None
    assert f"--roles {role}" in error.hint
    # Some are only wanted: Sys.Audit, which is still passed down from the root, and Datastore.Audit for disks.
    wanted = {"Sys.Audit"} | ({"Datastore.Audit"} if role == "LabctlDisks" else set())
    assert {p for p in privileges if any(one.startswith(f"right.{p}@") for one in failed)} == privileges - wanted


def test_a_call_without_the_right_names_right_and_path(pve):
    value = pve.token("reader@pve")
    with pve.client("reader@pve!labctl", value) as client, pytest.raises(PermissionMissing) as caught:
        client.time("pve")
    assert caught.value.path == "/nodes/pve"
    assert caught.value.privileges == ("Sys.Audit",)
