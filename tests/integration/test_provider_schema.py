"""The stacks against the real providers: their schemas, and `terraform validate`."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.terraform import (
    BPG_PROXMOX,
    PROGRAM_VARIABLE,
    Terraform,
    ensure_launcher,
    ensure_provider,
    find_engine,
    own_program,
    write_cli_config,
)
from labctl.model.ownprovider import OWN_PROVIDER, OWN_PROVIDER_VERSION
from stacks.constructs.provider import PROXMOX_SOURCE, PROXMOX_VERSION

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "golden" / "stacks"
DOCUMENTS = sorted(GOLDEN.glob("*/*.json"))
META = {"//", "depends_on", "lifecycle", "provider", "count", "for_each"}


class Workshop:
    """Terraform with the real providers, in folders of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.engine = find_engine()
        mirror = Path(os.environ.get("LABCTL_MIRROR") or REPOSITORY / ".cache" / "labctl" / "mirror")
        ensure_provider(mirror, BPG_PROXMOX, host=self.engine.registry_host)
        ensure_launcher(mirror)
        self.cli_config = home / "cli.tfrc"
        write_cli_config(self.cli_config, mirror)

    def terraform(self, name: str, document: dict[str, Any]) -> Terraform:
        folder = self.home / name
        folder.mkdir(parents=True)
        (folder / "cdk.tf.json").write_text(json.dumps(document))
        # The S3 region comes from the environment, as in a run.
        env = {PROGRAM_VARIABLE: own_program(), "AWS_REGION": "eu-west-1"}
        terraform = Terraform(self.engine, folder, stack=name, home=self.home / "home", cli_config=self.cli_config, env=env)
        terraform.init()
        return terraform


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def schema(workshop: Workshop) -> dict[str, Any]:
    """Of both providers: `provider` by name, `resource_schemas` of the two together."""
    required = {
        "proxmox": {"source": PROXMOX_SOURCE, "version": PROXMOX_VERSION},
        "labctl": {"source": OWN_PROVIDER, "version": OWN_PROVIDER_VERSION},
    }
    answer = workshop.terraform("schema", {"terraform": {"required_providers": required}}).providers_schema()
    found = {address.rpartition("/")[2]: provider for address, provider in answer["provider_schemas"].items()}
    return {
        "provider": {name: provider["provider"] for name, provider in found.items()},
        "resource_schemas": {kind: block for provider in found.values() for kind, block in provider["resource_schemas"].items()},
    }


def violations(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """What in a stack's document the provider does not know, deprecates, computes itself or requires in vain."""
    found: list[str] = []
    for provider, bodies in document.get("provider", {}).items():
        for body in bodies:
            found += in_block(f"provider.{provider}", body, schema["provider"][provider]["block"])
    for kind, resources in document.get("resource", {}).items():
        if kind not in schema["resource_schemas"]:
            found.append(f"{kind}: no such resource")
            continue
        block = schema["resource_schemas"][kind]["block"]
        if block.get("deprecated"):
            found.append(f"{kind}: deprecated")
        for name, body in resources.items():
            found += in_block(f"{kind}.{name}", {key: body[key] for key in body.keys() - META}, block)
    return found


def in_block(where: str, body: dict[str, Any], block: dict[str, Any]) -> Iterator[str]:
    attributes, blocks = block.get("attributes", {}), block.get("block_types", {})
    for name, value in body.items():
        if name in attributes:
            yield from in_attribute(f"{where}.{name}", value, attributes[name])
        elif name in blocks:
            items = value if isinstance(value, list) else [value]
            if blocks[name]["block"].get("deprecated"):
                yield f"{where}.{name}: deprecated"
            if blocks[name].get("max_items") and len(items) > blocks[name]["max_items"]:
                yield f"{where}.{name}: at most {blocks[name]['max_items']}"
            for item in items:
                yield from in_block(f"{where}.{name}", item, blocks[name]["block"])
        else:
            yield f"{where}.{name}: no such argument"
    required = {name for name, attribute in attributes.items() if attribute.get("required")}
    required |= {name for name, nested in blocks.items() if nested.get("min_items")}
    yield from (f"{where}.{name}: required" for name in sorted(required - body.keys()))


def in_attribute(where: str, value: Any, attribute: dict[str, Any]) -> Iterator[str]:
    if attribute.get("deprecated"):
        yield f"{where}: deprecated"
    if not attribute.get("required") and not attribute.get("optional"):
        yield f"{where}: computed by the provider"
    items = value if isinstance(value, list) else [value]
    if "nested_type" in attribute:
        for item in items:
            yield from in_block(where, item, attribute["nested_type"])
    match attribute.get("type"):
        case ["list" | "set", ["object", dict(wanted)]]:
            for item in items:
                yield from (f"{where}.{name}: no such argument" for name in item.keys() - wanted.keys())
                yield from (f"{where}.{name}: required in JSON syntax" for name in wanted.keys() - item.keys())


def test_there_are_documents_of_every_layer() -> None:
    assert {path.stem for path in DOCUMENTS} == {"foundation", "platform", "services", "mlserver", "web"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_argument_is_the_providers(path: Path, schema: dict[str, Any]) -> None:
    assert violations(json.loads(path.read_text()), schema) == []


VM = "proxmox_virtual_environment_vm"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r[VM]["docker"].update(memory_mib=1), f"{VM}.docker.memory_mib: no such argument"),
        (lambda r: r[VM]["docker"]["cpu"].update(core=1), f"{VM}.docker.cpu.core: no such argument"),
        (lambda r: r[VM]["docker"].update(timeout_move_disk=1), f"{VM}.docker.timeout_move_disk: deprecated"),
        (lambda r: r[VM]["docker"].update(ipv4_addresses=[]), f"{VM}.docker.ipv4_addresses: computed by the provider"),
        (lambda r: r[VM]["docker"].pop("node_name"), f"{VM}.docker.node_name: required"),
        (lambda r: r[VM]["docker"]["disk"].pop("interface"), f"{VM}.docker.disk.interface: required"),
        (lambda r: r[VM]["docker"].update(agent=[{}, {}]), f"{VM}.docker.agent: at most 1"),
        (
            lambda r: r[VM]["docker"]["network_device"][0].pop("mtu"),
            f"{VM}.docker.network_device.mtu: required in JSON syntax",
        ),
        (
            lambda r: r["proxmox_hardware_mapping_pci"]["gpu_vga"]["map"][0].update(bus=1),
            "proxmox_hardware_mapping_pci.gpu_vga.map.bus: no such argument",
        ),
        (lambda r: r.update(proxmox_vmm={}), "proxmox_vmm: no such resource"),
        (
            lambda r: r.update(proxmox_virtual_environment_download_file={}),
            "proxmox_virtual_environment_download_file: deprecated",
        ),
    ],
)
def test_the_check_finds_what_is_wrong(change: Any, said: str, schema: dict[str, Any]) -> None:
    document = copy.deepcopy(json.loads((GOLDEN / "gpu" / "platform.json").read_text()))
    change(document["resource"])
    assert violations(document, schema) == [said]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_terraform_finds_nothing_to_say(path: Path, workshop: Workshop) -> None:
    document = json.loads(path.read_text())
    document["terraform"]["backend"] = {"local": {"path": "terraform.tfstate"}}
    terraform = workshop.terraform(f"{path.parent.name}-{path.stem}", document)
    verdict = json.loads(terraform.cmd("validate", "-json", ok=(0, 1)).stdout)
    assert verdict["diagnostics"] == []
    assert verdict["valid"] is True


def test_terraform_refuses_a_wrong_argument(workshop: Workshop) -> None:
    document = json.loads((GOLDEN / "sandbox" / "foundation.json").read_text())
    document["resource"][VM]["vault"]["memory_mib"] = 1
    verdict = json.loads(workshop.terraform("wrong", document).cmd("validate", "-json", ok=(0, 1)).stdout)
    assert verdict["valid"] is False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda project: project.update(wait=1), "labctl_compose_project.kafka.wait: no such argument"),
        (lambda project: project.update(content_hash=""), "labctl_compose_project.kafka.content_hash: computed by the provider"),
        (lambda project: project.pop("compose"), "labctl_compose_project.kafka.compose: required"),
    ],
)
def test_the_check_knows_labctls_own_provider_too(change: Any, said: str, schema: dict[str, Any]) -> None:
    document = json.loads((GOLDEN / "services" / "services.json").read_text())
    change(document["resource"]["labctl_compose_project"]["kafka"])
    assert violations(document, schema) == [said]


def test_stacks_and_mirror_mean_the_same_provider() -> None:
    assert (BPG_PROXMOX.name, BPG_PROXMOX.version) == (PROXMOX_SOURCE, PROXMOX_VERSION)


def test_no_network_card_sets_the_deprecated_switch() -> None:
    # The schema cannot say it: the block is an attribute of objects there, without a word on its parts.
    for path in DOCUMENTS:
        for vm in json.loads(path.read_text())["resource"].get(VM, {}).values():
            assert [card["enabled"] for card in vm["network_device"]] == ["${null}"]
