"""The stacks applied for real: the real Terraform and provider against the sandbox's hypervisor."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.terraform import (
    BPG_PROXMOX,
    PlanOutcome,
    Terraform,
    ensure_provider,
    find_engine,
    write_cli_config,
)
from labctl.model.contracts import FoundationContract, PlatformContract, check_outputs
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.secret import Secret
from labctl.model.stackcontext import StackContext
from labctl.sandbox import SandboxConfig, SandboxInfo, control, start, stop
from labctl.synth import synthesise

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("stacks-sandbox")]

REPOSITORY = Path(__file__).parents[2]
NETWORK = "127.86.91.0/24"
LAB = f"""
name: applied
target: {{sandbox: {{guests: appliance, network: {NETWORK}}}}}
"""
GPU = """
platform:
  docker:
    gpu: {vga_path: "0000:01:00.0", vga_id: "10de:2204", vga_subsystem_id: "10de:147d", vga_iommu_group: 14,
          audio_path: "0000:01:00.1", audio_id: "10de:1aef", audio_subsystem_id: "10de:147d", audio_iommu_group: 14}
"""


@dataclass(frozen=True)
class Bench:
    """A lab's folder, a sandbox and an engine."""

    home: Path
    sandbox: SandboxInfo

    def lab(self, more: str = "") -> Lab:
        return parse_lab(LAB + more)

    def stack(self, name: str, lab: Lab) -> Terraform:
        """Terraform on a freshly synthesised stack; platform keeps its state in a file, for want of an object store."""
        folder = synthesise(StackContext(lab, "", self.home / "state", self.home)).stack(name).folder
        if name == "platform":
            backend = {"terraform": {"backend": {"local": {"path": "../../state/platform.tfstate"}}}}
            (folder / "backend_override.tf.json").write_text(json.dumps(backend))
        engine = find_engine()
        mirror = Path(os.environ.get("LABCTL_MIRROR") or REPOSITORY / ".cache" / "labctl" / "mirror")
        ensure_provider(mirror, BPG_PROXMOX, host=engine.registry_host)
        write_cli_config(self.home / "cli.tfrc", mirror)
        env: dict[str, str | Secret] = {
            "PROXMOX_VE_API_TOKEN": Secret(f"{self.sandbox.token_id}={self.sandbox.token.reveal()}"),
            "PROXMOX_VE_SSH_PRIVATE_KEY": Secret(self.sandbox.ssh_private_key_file.read_text()),
            "SSL_CERT_FILE": str(self.sandbox.ca_file),
            "SSL_CERT_DIR": str(self.home),
        }
        terraform = Terraform(engine, folder, stack=name, home=self.home / "home", cli_config=self.home / "cli.tfrc", env=env)
        terraform.init()
        return terraform

    def plan(self, terraform: Terraform, *, destroy: bool = False) -> PlanOutcome:
        return terraform.plan(terraform.work_dir / "plan", destroy=destroy)

    def settle(self, terraform: Terraform) -> None:
        """Applies, and looks that nothing is left to do."""
        self.plan(terraform)
        terraform.apply(terraform.work_dir / "plan")
        again = self.plan(terraform)
        assert not again.changes, [str(change) for change in again.planned]

    def destroy(self, terraform: Terraform) -> None:
        self.plan(terraform, destroy=True)
        terraform.apply(terraform.work_dir / "plan")

    def hypervisor(self) -> dict[str, Any]:
        return dict(control(self.home / "sandbox", "GET", "state"))

    def guests(self) -> dict[str, Any]:
        return dict(self.hypervisor()["guests"])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = tmp_path_factory.mktemp("applied")
    config = SandboxConfig(node="pve", bridge="vmbr0", address="127.86.91.1", api_port=8006, ssh_port=8022, network=NETWORK)
    (home / "state").mkdir()
    try:
        yield Bench(home, start(home / "sandbox", config))
    finally:
        stop(home / "sandbox")


def actions(outcome: PlanOutcome) -> dict[str, str]:
    return {change.address: change.action for change in outcome.planned}


def test_both_layers_up_changed_and_down(bench: Bench) -> None:
    lab = bench.lab()
    foundation = bench.stack("foundation", lab)
    bench.settle(foundation)
    below = check_outputs("foundation", {name: output.value for name, output in foundation.output().items()})
    assert isinstance(below, FoundationContract)
    assert below.guests["vault"].address == lab.guest("vault").ip

    platform = bench.stack("platform", lab)
    bench.settle(platform)
    above = check_outputs("platform", {name: output.value for name, output in platform.output().items()})
    assert isinstance(above, PlatformContract)
    assert above.docker_host == f"ssh://ops@{lab.guest('docker').ip}"
    assert sorted(bench.guests()) == ["101", "102", "201", "202"]

    # A change of the layer below reaches the one above through its contract, and replaces no guest.
    moved = bench.lab("foundation: {store: {region: eu-central-1}, image: {file_name: newer.qcow2}}\n")
    bench.settle(bench.stack("foundation", moved))
    seen = actions(bench.plan(bench.stack("platform", moved)))
    assert seen["proxmox_virtual_environment_file.gitlab"] == "replace"
    assert {seen.get(f"proxmox_virtual_environment_vm.{name}") for name in ("gitlab", "docker")} <= {"update", None}
    bench.settle(bench.stack("platform", moved))

    # A replaced guest gets its firewall back.
    platform.cmd("plan", "-replace=proxmox_virtual_environment_vm.docker", f"-out={platform.work_dir / 'plan'}", input=False)
    platform.apply(platform.work_dir / "plan")
    assert not bench.plan(platform).changes
    firewall = bench.hypervisor()["firewalls"]["qemu/202"]
    assert [(rule["action"], rule["dport"], rule["source"]) for rule in firewall["rules"]] == [("ACCEPT", "22", NETWORK)]
    assert firewall["options"]["policy_in"] == "DROP"

    bench.destroy(platform)
    assert sorted(bench.guests()) == ["101", "102"]
    bench.destroy(foundation)
    left = bench.hypervisor()
    assert (left["guests"], left["pools"], left["volumes"]) == ({}, {}, {})
    assert list((bench.home / "sandbox").rglob("applied-*")) == []


def test_a_gpu_comes_and_goes(bench: Bench) -> None:
    foundation = bench.stack("foundation", bench.lab())
    bench.settle(foundation)
    bench.settle(bench.stack("platform", bench.lab()))
    with_gpu = bench.stack("platform", bench.lab(GPU))
    assert actions(bench.plan(with_gpu))["proxmox_virtual_environment_vm.docker"] == "update"
    bench.settle(with_gpu)
    without = bench.stack("platform", bench.lab())
    assert actions(bench.plan(without))["proxmox_virtual_environment_vm.docker"] == "update"
    bench.settle(without)
    assert bench.hypervisor()["mappings"]["pci"] == {}
    bench.destroy(without)
    bench.destroy(foundation)
    assert bench.guests() == {}
