"""What the README promises, seen from outside: with other clients than labctl's own where there are any."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import hvac
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.e2e.labfolder import ALL_GUESTS, LabFolder

NOTHING = {"add": 0, "change": 0, "replace": 0, "destroy": 0}


def vault(lab: LabFolder) -> hvac.Client:
    found = lab.json("sandbox", "status")["vault"]
    session = requests.Session()
    session.trust_env, session.verify = False, found["ca_file"]
    client = hvac.Client(url=found["address"], session=session, verify=found["ca_file"])
    client.auth.approle.login(found["role_id"], found["secret_id"])
    return client


def store(found: dict[str, Any], access_key: str, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=found["endpoint"],
        region_name=found["region"],
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        verify=found["ca_file"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def test_both_layers_are_up_and_status_says_so(deployed: LabFolder) -> None:
    status = deployed.json("status")
    assert (status["lab"], status["target"]) == ("e2e", "sandbox")
    assert [layer["name"] for layer in status["layers"]] == ["foundation", "platform"]
    guests = {guest["name"]: guest for layer in status["layers"] for guest in layer["guests"]}
    assert {name: guest["vmid"] for name, guest in guests.items()} == {"store": 101, "vault": 102, "gitlab": 201, "docker": 202}
    assert {guest["agent"] for guest in guests.values()} == {"running"}
    (platform,) = status["layers"][1]["stacks"]
    assert platform["outputs"]["registry_host"] == "gitlab.lab.internal:5050"


def test_a_second_up_applies_nothing_and_a_plan_is_clean(deployed: LabFolder) -> None:
    report = deployed.ok("up", "--yes", "--json").last_json
    assert report["type"] == "report"
    assert report["result"] == "nothing to do"
    assert [(s["name"], s["result"]) for s in report["stacks"]] == [("foundation", "no changes"), ("platform", "no changes")]
    plan = deployed.run("plan", "--detailed-exitcode", "--json")
    assert plan.code == 0, plan.out[-2000:]
    assert [{"status": s["status"]} | {k: s[k] for k in NOTHING} for s in plan.last_json["stacks"]] == [
        {"status": "no changes"} | NOTHING,
        {"status": "no changes"} | NOTHING,
    ]


def test_without_a_terminal_a_change_needs_yes(deployed: LabFolder) -> None:
    deployed.write("platform: {docker: {memory_mib: 20480}}\n")
    try:
        refused = deployed.run("up")
        assert refused.code == 1
        assert "Add --yes" in refused.err
        plan = deployed.run("plan", "--detailed-exitcode", "--json")
        assert plan.code == 2
        assert plan.last_json["stacks"][1] | NOTHING == plan.last_json["stacks"][1] | NOTHING
        assert plan.last_json["stacks"][1]["change"] == 1
    finally:
        deployed.write("")
    assert deployed.run("plan", "--detailed-exitcode").code == 0


def test_the_hypervisor_has_what_was_described(deployed: LabFolder) -> None:
    pve = deployed.hypervisor()
    config = pve.nodes("pve").qemu(201).config.get()
    assert (config["name"], config["cores"], int(config["memory"])) == ("gitlab", 4, 8192)
    assert config["cicustom"].startswith("user=local:snippets/")
    rules = pve.nodes("pve").qemu(102).firewall.rules.get()
    assert [(r["action"], r["dport"]) for r in rules] == [("ACCEPT", "8200")]


def test_secrets_are_read_with_an_approle_login_and_root_is_gone(deployed: LabFolder) -> None:
    client = vault(deployed)
    secret = client.secrets.kv.v2.read_secret_version(path="gitlab/root", mount_point="lab", raise_on_deleted_version=True)
    assert len(secret["data"]["data"]["password"]) >= 32
    with pytest.raises(hvac.exceptions.Forbidden):
        client.auth.token.create_orphan()
    assert "root" not in client.lookup_token()["data"]["policies"]


def test_state_lies_in_a_versioned_bucket_and_lesser_credentials_reach_no_other(deployed: LabFolder) -> None:
    found = deployed.json("sandbox", "status")["s3"]
    root = store(found, found["access_key"], found["secret_key"])
    assert {b["Name"] for b in root.list_buckets()["Buckets"]} >= {"terraform", "gitlab", "lakehouse", "mlflow"}
    assert root.get_bucket_versioning(Bucket="terraform")["Status"] == "Enabled"
    state = json.loads(root.get_object(Bucket="terraform", Key="state/platform/terraform.tfstate")["Body"].read())
    assert set(state["outputs"]) == {"gitlab_url", "registry_host", "docker_host", "guests"}
    secret = vault(deployed).secrets.kv.v2.read_secret_version(
        path="store/gitlab", mount_point="lab", raise_on_deleted_version=True
    )
    gitlab = store(found, **secret["data"]["data"])
    gitlab.put_object(Bucket="gitlab", Key="probe", Body=b"x")
    gitlab.delete_object(Bucket="gitlab", Key="probe")
    with pytest.raises(ClientError, match="AccessDenied"):
        gitlab.get_object(Bucket="terraform", Key="state/platform/terraform.tfstate")


def test_output_and_render(deployed: LabFolder) -> None:
    address = deployed.ok("output", "foundation", "vault_address").out.strip()
    assert address.startswith("https://127.")
    unknown = deployed.run("output", "foundation", "vault_adress")
    assert unknown.code == 1
    assert "Did you mean 'vault_address'?" in unknown.err
    document = deployed.ok("render", "gitlab").out
    assert document.startswith("#cloud-config\n")
    assert "checksum_disabled" in document


def test_doctor_finds_nothing_wrong(deployed: LabFolder) -> None:
    checks = [json.loads(line) for line in deployed.ok("doctor", "--json").out.splitlines()]
    assert [c for c in checks if c["verdict"] == "fail"] == []
    looked_at = {c["id"] for c in checks}
    assert {"engine", "provider", "vault", "store", "authority", "clock", "vmid.201", "guest.vault", "guest.gitlab"} <= looked_at


def test_doctor_names_what_is_broken_with_what_mends_it(lab: LabFolder) -> None:
    lab.ok("up", "--yes", "--layer", "foundation")
    guest = lab.hypervisor().nodes("pve").qemu(101)
    guest.status.stop.post()
    while guest.status.current.get()["status"] != "stopped":
        time.sleep(0.1)
    done = lab.run("doctor", "--json")
    assert done.code == 1
    failed = {c["id"]: c for c in map(json.loads, done.out.splitlines()) if c["verdict"] == "fail"}
    assert set(failed) == {"guest.store", "store"}
    assert failed["guest.store"]["detail"] == "is stopped"
    assert "labctl up" in failed["guest.store"]["remedy"]
    lab.ok("up", "--yes", "--layer", "foundation")
    assert lab.run("doctor").code == 0


def test_stop_and_start_keeps_everything(deployed: LabFolder) -> None:
    before = deployed.json("secrets", "get", "gitlab/root")
    deployed.ok("sandbox", "stop")
    assert deployed.json("sandbox", "status")["running"] is False
    deployed.ok("sandbox", "start")
    sealed = deployed.run("vault", "status", "--json")
    assert sealed.code == 1
    assert json.loads(sealed.out)["sealed"] is True
    report = deployed.ok("up", "--yes", "--json").last_json
    assert {s["result"] for s in report["stacks"]} == {"no changes"}
    assert deployed.json("vault", "status")["sealed"] is False
    assert deployed.json("secrets", "get", "gitlab/root") == before
    assert deployed.run("plan", "--detailed-exitcode").code == 0


def test_a_protected_guest_is_not_destroyed_without_its_name(deployed: LabFolder) -> None:
    refused = deployed.run("down", "--yes", "--layer", "platform")
    assert refused.code == 1
    assert "--allow-destroy docker --allow-destroy gitlab" in refused.err
    unknown = deployed.run("down", "--yes", "--allow-destroy", "gitlib")
    assert "Did you mean 'gitlab'?" in unknown.err
    assert len(deployed.hypervisor().cluster.resources.get(type="vm")) == 4


def test_plain_terraform_agrees(deployed: LabFolder) -> None:
    folder = deployed.work / "stacks" / "platform"
    done = deployed.run("env", "--", "terraform", f"-chdir={folder}", "plan", "-detailed-exitcode", "-input=false", "-no-color")
    assert done.code == 0, done.out + done.err


def test_down_empties_the_hypervisor_and_up_builds_it_again(lab: LabFolder) -> None:
    lab.ok("up", "--yes")
    first = lab.json("secrets", "get", "gitlab/root")["data"]
    pve = lab.hypervisor()
    users = {u["userid"] for u in pve.access.users.get()}
    lab.down()
    assert pve.cluster.resources.get(type="vm") == []
    assert pve.pools.get() == []
    assert [v["volid"] for s in ("local", "local-lvm") for v in pve.nodes("pve").storage(s).content.get()] == []
    assert {u["userid"] for u in pve.access.users.get()} == users
    assert lab.json("status")["layers"] == []
    again = lab.run("down", "--yes", "--allow-destroy", ALL_GUESTS)
    assert "Nothing to do" in again.out
    up = lab.ok("up", "--yes")
    # The guests have other host keys, because they are other guests.
    assert "host key, though" not in up.out + up.err
    assert lab.json("secrets", "get", "gitlab/root")["data"] != first
    assert lab.run("plan", "--detailed-exitcode").code == 0
    retired = list((lab.work / "keys" / "retired").iterdir())
    assert len(retired) == 1


def test_a_foreign_guest_stops_up_and_is_untouched(lab: LabFolder) -> None:
    lab.ok("sandbox", "start")
    pve = lab.hypervisor()
    pve.nodes("pve").qemu.post(vmid=201, name="photos", memory=512, cores=1)
    before = pve.nodes("pve").qemu(201).config.get()
    refused = lab.run("up", "--yes")
    assert refused.code == 1
    assert "'photos'" in refused.err
    assert "201" in refused.err
    assert [g["vmid"] for g in pve.cluster.resources.get(type="vm")] == [201]
    lab.write("platform: {gitlab: {vmid: 301}}\n")
    lab.ok("up", "--yes")
    lab.down()
    assert [g["vmid"] for g in pve.cluster.resources.get(type="vm")] == [201]
    assert pve.nodes("pve").qemu(201).config.get() == before


def test_a_foreign_guest_that_comes_between_the_layers_is_seen_too(lab: LabFolder) -> None:
    lab.ok("up", "--yes", "--layer", "foundation")
    pve = lab.hypervisor()
    pve.nodes("pve").qemu.post(vmid=202, name="photos", memory=512)
    refused = lab.run("up", "--yes")
    assert refused.code == 1
    assert "'photos'" in refused.err
    assert {g["vmid"] for g in pve.cluster.resources.get(type="vm")} == {101, 102, 202}
    lab.ok("down", "--yes", "--allow-destroy", "vault", "--allow-destroy", "store")
    assert {g["vmid"] for g in pve.cluster.resources.get(type="vm")} == {202}


def test_synthesis_is_skipped_when_nothing_changed(deployed: LabFolder) -> None:
    seen = "print('cdktf' in sys.modules, 'jsii' in sys.modules)"
    probe = f"import sys; from labctl.cli import main\ntry: main(['plan'])\nfinally: {seen}"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=deployed.path, env=deployed.environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "False False", done.stdout + done.stderr


def test_help_names_every_command_and_none_is_missing_its_file() -> None:
    from labctl.cli._main import COMMANDS

    folder = Path(__file__).parents[2] / "src" / "labctl" / "cli"
    assert {p.stem.rstrip("_") for p in folder.glob("[a-z]*.py")} == set(COMMANDS)
