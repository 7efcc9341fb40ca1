"""Rules that the golden files alone would not explain."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from labctl.cloudinit import UserDataRequest, user_data
from labctl.model.apps import APP_KINDS
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.stackcontext import StackContext

Documents = dict[str, Any]
VM = "proxmox_virtual_environment_vm"
VARIANTS = ["sandbox", "gpu", "dhcp"]
GUESTS = {"foundation": ["vault", "store"], "platform": ["gitlab", "docker"]}


def vms(documents: Documents) -> dict[str, Any]:
    return {name: vm for document in documents.values() for name, vm in document["resource"][VM].items()}


@pytest.mark.parametrize("variant", [*VARIANTS, "apps"])
def test_outputs_are_the_contracts(variant: str, lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    from labctl.model.contracts import CONTRACTS

    for name, document in documents(lab(variant)).items():
        layer = document["//"]["metadata"]["layer"]
        assert layer == ("apps" if name in APP_KINDS else name)
        assert set(document["output"]) == set(CONTRACTS[layer].model_fields)


@pytest.mark.parametrize("variant", ["sandbox", "gpu"])
def test_with_static_addresses_foundation_is_known_before_it_is_applied(
    variant: str, lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    from labctl.model.contracts import check_outputs

    this = lab(variant)
    outputs = {name: output["value"] for name, output in documents(this)["foundation"]["output"].items()}
    assert outputs.pop("pool_id") == "${proxmox_virtual_environment_pool.lab.pool_id}"
    assert check_outputs("foundation", outputs | {"pool_id": this.name})


def test_a_static_guest_does_not_wait_for_its_agent_and_a_leased_one_does(
    lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    for vm in vms(documents(lab("sandbox"))).values():
        assert vm["agent"]["enabled"] is True
        assert vm["agent"]["wait_for_ip"] == {"disabled": True}
    leased = documents(lab("dhcp"))
    for vm in vms(leased).values():
        assert "wait_for_ip" not in vm["agent"]
        assert vm["agent"]["timeout"].endswith("m")
    for document in leased.values():
        assert all(options["dhcp"] for options in document["resource"]["proxmox_virtual_environment_firewall_options"].values())
    assert leased["foundation"]["output"]["vault_address"]["value"] == "https://${local.vault_address}:8200"


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_edited_document_does_not_replace_a_guest(
    variant: str, lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    for document in documents(lab(variant)).values():
        for name, vm in document["resource"][VM].items():
            snippet = document["resource"]["proxmox_virtual_environment_file"][name]
            wanted = f"{snippet['datastore_id']}:snippets/{snippet['source_raw']['file_name']}"
            assert vm["initialization"]["user_data_file_id"] == wanted
            assert f"proxmox_virtual_environment_file.{name}" in vm["depends_on"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_shared_on_a_host_carries_the_labs_name(
    variant: str, lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    this = lab(variant)
    for document in documents(this).values():
        resources = document["resource"]
        names = [file["source_raw"]["file_name"] for file in resources["proxmox_virtual_environment_file"].values()]
        names += [image["file_name"] for image in resources.get("proxmox_download_file", {}).values()]
        names += [mapping["name"] for mapping in resources.get("proxmox_hardware_mapping_pci", {}).values()]
        names += [pool["pool_id"] for pool in resources.get("proxmox_virtual_environment_pool", {}).values()]
        assert names
        assert all(name.startswith(this.name) for name in names)


@pytest.mark.parametrize("variant", VARIANTS)
def test_tags_are_sorted_and_tell_lab_and_role(
    variant: str, lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    this = lab(variant)
    for name, vm in vms(documents(this)).items():
        assert vm["tags"] == sorted({"labctl", this.name, f"role-{name}"})


def test_the_firewall_opens_what_the_contract_names_and_nothing_else(
    lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    def openings(variant: str) -> dict[str, tuple[list[str], set[str]]]:
        found = {}
        for document in documents(lab(variant)).values():
            for name, rules in document["resource"]["proxmox_virtual_environment_firewall_rules"].items():
                assert all((r["type"], r["action"], r["proto"]) == ("in", "ACCEPT", "tcp") for r in rules["rule"])
                found[name] = [r["dport"] for r in rules["rule"]], {r.get("source", "any") for r in rules["rule"]}
            for options in document["resource"]["proxmox_virtual_environment_firewall_options"].values():
                assert (options["enabled"], options["input_policy"], options["output_policy"]) == (True, "DROP", "ACCEPT")
        return found

    net = {"127.86.0.0/24"}
    assert openings("sandbox") == {
        "vault": (["8200"], net),
        "store": (["9000"], net),
        "gitlab": (["80", "22", "5050"], net),
        "docker": (["22"], net),
    }
    assert openings("gpu")["gitlab"] == (["8443", "22", "5051"], {"192.0.2.0/24"})
    assert openings("dhcp")["vault"] == (["8200"], {"any"})


@pytest.mark.parametrize("variant", VARIANTS)
def test_rules_and_mappings_follow_their_guest(
    variant: str, lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    for document in documents(lab(variant)).values():
        for kind in ("options", "rules"):
            for name, block in document["resource"][f"proxmox_virtual_environment_firewall_{kind}"].items():
                assert block["lifecycle"] == {"replace_triggered_by": [f"{VM}.{name}.id"]}
        for mapping in document["resource"].get("proxmox_hardware_mapping_pci", {}).values():
            assert mapping["lifecycle"] == {"create_before_destroy": True}


def test_a_gpu_brings_its_machine_and_nothing_of_it_is_there_without(
    lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    docker = vms(documents(lab("gpu")))["docker"]
    assert (docker["machine"], docker["bios"], docker["efi_disk"]["type"]) == ("q35", "ovmf", "4m")
    assert [device["device"] for device in docker["hostpci"]] == ["hostpci0", "hostpci1"]
    plain = documents(lab("sandbox"))
    assert not any(vm.keys() & {"hostpci", "machine", "bios", "efi_disk"} for vm in vms(plain).values())
    assert "proxmox_hardware_mapping_pci" not in plain["platform"]["resource"]


def test_a_gpu_and_a_balloon_exclude_each_other(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    with pytest.raises(UserError, match=r"platform\.docker: gpu and balloon_mib exclude each other"):
        documents(lab("gpu", ("cpu_type: host", "balloon_mib: 1024")))


def test_sizes_are_those_of_the_lab(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    this = lab("gpu")
    for name, vm in vms(documents(this)).items():
        settings = this.guest(name).settings
        assert (vm["vm_id"], vm["cpu"], vm["disk"]["size"], vm["on_boot"]) == (
            settings.vmid,
            {"cores": settings.cores, "type": settings.cpu_type},
            settings.disk_gib,
            settings.on_boot,
        )
        floor = {} if settings.balloon_mib is None else {"floating": settings.balloon_mib}
        assert vm["memory"] == {"dedicated": settings.memory_mib} | floor


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_credential_and_no_state_endpoint_is_written(
    variant: str, lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    for name, document in documents(lab(variant)).items():
        provider = document["provider"]["proxmox"][0]
        assert set(provider) == {"endpoint", "ssh"}
        assert set(provider["ssh"]) == {"agent", "username", "node"}
        allowed = {"local": {"path"}, "s3": {"bucket", "key", "use_lockfile", "use_path_style"}}
        for kind, settings in document["terraform"]["backend"].items():
            assert {key for key in settings if not key.startswith("skip_")} == allowed[kind], name


def test_states_are_found_from_the_stacks_folder_wherever_the_lab_lies(
    lab: Callable[..., Lab], documents: Callable[..., Documents], context: Callable[..., StackContext]
) -> None:
    this = lab("sandbox")
    made = documents(this)
    relative = made["foundation"]["terraform"]["backend"]["local"]["path"]
    where = context(this)
    assert (where.outdir / "stacks/foundation" / relative).resolve() == (where.state_dir / "foundation.tfstate").resolve()
    assert made["platform"]["data"]["terraform_remote_state"]["foundation"]["config"] == {"path": relative}
    assert str(where.outdir) not in json.dumps(made)


def test_only_the_plain_cli_gets_prevent_destroy(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    assert not any("prevent_destroy" in vm.get("lifecycle", {}) for vm in vms(documents(lab("gpu"))).values())
    guarded = vms(documents(lab("gpu"), prevent_destroy=True))
    assert len(guarded) == 4
    assert all(vm["lifecycle"]["prevent_destroy"] is True for vm in guarded.values())


def test_a_guest_that_lost_its_gpu_may_keep_the_firmwares_disk(
    lab: Callable[..., Lab], documents: Callable[..., Documents]
) -> None:
    assert {name: vm.get("lifecycle") for name, vm in vms(documents(lab("gpu"))).items()} == {
        "vault": {"ignore_changes": ["efi_disk"]},
        "store": {"ignore_changes": ["efi_disk"]},
        "gitlab": {"ignore_changes": ["efi_disk"]},
        "docker": None,
    }


def test_snippets_hold_the_cloud_init_documents(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    this, pem = lab("gpu"), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    made = documents(this, authority_pem=pem)
    for name in GUESTS["foundation"]:
        request = UserDataRequest(
            lab=this,
            guest=this.guest(name),
            authority_pem=pem,
            ssh_keys=this.operators,
            vault_address="https://192.0.2.12:8200",
            s3_endpoint="https://192.0.2.11:9000",
            s3_region="eu-central-1",
            hosts={g.fqdn: g.ip for g in this.guests()},
        )
        text = made["foundation"]["resource"]["proxmox_virtual_environment_file"][name]["source_raw"]["data"]
        assert text.replace("$${", "${").replace("%%{", "%{") == user_data(request)
    # Platform learns the endpoints from foundation's state, as its contract says.
    text = made["platform"]["resource"]["proxmox_virtual_environment_file"]["gitlab"]["source_raw"]["data"]
    assert "${data.terraform_remote_state.foundation.outputs.s3_endpoint}" in text
    assert "TfToken" not in json.dumps(made)
