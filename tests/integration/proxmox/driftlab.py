"""A lab on the sandbox's hypervisor, made by root without Terraform, and the states that Terraform would have left of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labctl.adapters.proxmox import Proxmox
from labctl.adapters.proxmox.inventory import take_inventory
from labctl.model.drift.finding import AreaDrift
from labctl.model.drift.proxmox import Declared, Unmanaged, Written, compare, declared_by
from labctl.model.inventory import Release
from labctl.model.lab import GuestSpec, Lab
from labctl.model.labfile import parse_lab
from labctl.model.secret import Secret
from labctl.sandbox import supervisor

from .conftest import Pve

NOW = datetime(2027, 3, 1, 3, 30, tzinfo=UTC)
NINE = Release("9.0.10")
LAB = """
name: driftlab
target: {proxmox: {endpoint: "https://pve.example.com:8006"}}
network: {cidr: 127.86.79.0/24}
operators: [age1replacethiswithyourownpublickey000000000000000000000000000]
platform:
  docker:
    gpu: {vga_path: "0000:01:00.0", vga_id: "10de:2204", vga_subsystem_id: "10de:147d", vga_iommu_group: 14,
          audio_path: "0000:01:00.1", audio_id: "10de:1aef", audio_subsystem_id: "10de:147d", audio_iommu_group: 14}
"""
MAPPED = {
    "vga": "id=10de:2204,iommugroup=14,node=pve,path=0000:01:00.0,subsystem-id=10de:147d",
    "audio": "id=10de:1aef,iommugroup=14,node=pve,path=0000:01:00.1,subsystem-id=10de:147d",
}
AUDITOR = "labctl-drift@pve!nightly"
_TO = f"--users labctl-drift@pve --tokens '{AUDITOR}' --roles"
GRANTS = (
    f"pveum acl modify / {_TO} PVEAuditor",
    'pveum role add LabctlDriftFiles --privs "Datastore.Allocate Datastore.Audit"',
    f"pveum acl modify /storage/local {_TO} LabctlDriftFiles",
    f"pveum acl modify /storage/local-lvm {_TO} LabctlDriftFiles",
)
"""As docs/drift-proxmox.md has them."""


@dataclass
class DriftLab:
    """The lab, root's way to the hypervisor, and the token that only looks. `made` is the hypervisor's state as it should be."""

    pve: Pve
    lab: Lab
    states: dict[str, Written]
    token: Secret
    made: dict[str, Any] = field(default_factory=dict)

    def snapshot(self) -> dict[str, Any]:
        """The hypervisor's state, without when guests were started."""
        state = dict(supervisor.control(self.pve.home, "GET", "state"))
        for guest in state["guests"].values():
            del guest["started_at"]
        return state

    def put(self, kind: str, name: str, text: str = "#cloud-config\n") -> None:
        """A file on datastore `local`, as SFTP leaves it."""
        file = self.pve.home / "pve" / "var" / "lib" / "vz" / kind / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def clear(self) -> None:
        """Empties datastore `local`."""
        for folder in ("snippets", "import", "dump", "template/iso", "template/cache"):
            for file in (self.pve.home / "pve" / "var" / "lib" / "vz" / folder).iterdir():
                file.unlink()

    def control(self, method: str, path: str, **body: object) -> None:
        """The sandbox's control address."""
        supervisor.control(self.pve.home, method, path, dict(body))

    def do(self, method: str, path: str, /, **fields: object) -> Any:
        """A call by root; a task is waited for."""
        answer = self.pve.call(method, path, **fields)
        if isinstance(answer, str) and answer.startswith("UPID:"):
            self._wait(answer)
        return answer

    def _wait(self, upid: str) -> None:
        """As `wait_task`, but asks more often: there are hundreds of tasks here."""
        deadline = time.monotonic() + 20
        while (task := self.pve.call("GET", f"nodes/pve/tasks/{upid}/status"))["status"] == "running":
            assert time.monotonic() < deadline, task
            time.sleep(0.01)
        assert task["exitstatus"] == "OK", task

    def set(self, vmid: int, /, **options: object) -> None:
        """Changes a guest's configuration."""
        self.do("PUT", f"nodes/pve/qemu/{vmid}/config", **options)

    def delete(self, vmid: int) -> None:
        """Deletes a guest, as somebody with a mouse does."""
        self.do("POST", f"nodes/pve/qemu/{vmid}/status/stop")
        self.do("DELETE", f"nodes/pve/qemu/{vmid}", purge=1)

    def declared(self, token_id: str = AUDITOR) -> Declared:
        """What lab.yaml and the states say."""
        return declared_by(self.lab, self.states.values(), token_id, NINE)

    def look(
        self, *, now: datetime = NOW, unmanaged: Unmanaged = "lab", client: Proxmox | None = None, token_id: str = AUDITOR
    ) -> AreaDrift:
        """What a check finds."""
        declared = self.declared(token_id)
        with client or self.pve.client(AUDITOR, self.token) as one:
            return compare(take_inventory(one, declared), declared, now, unmanaged)


def make(pve: Pve) -> DriftLab:
    """The lab on a hypervisor that has nothing of it yet."""
    lab = parse_lab(LAB)
    pve.call("POST", "access/users", userid="labctl-drift@pve")
    made = pve.call("POST", "access/users/labctl-drift@pve/token/nightly", privsep=1)
    one = DriftLab(pve, lab, {}, Secret(made["value"]))
    for command in GRANTS:
        pve.pveum(command)
    pve.call("PUT", "cluster/firewall/options", enable=1)
    one.states = {layer: Written(layer, layer, _state(lab, layer)) for layer in ("foundation", "platform")}
    remake(one)
    return one


def remake(one: DriftLab) -> None:
    """The lab as its states say, whatever is there. What is as it was made is left alone: that is most of it."""
    pve, lab, now = one.pve, one.lab, one.snapshot()
    for node in now["nodes"]:
        one.control("DELETE", f"nodes/{node}")
    kept = {vmid for vmid, guest in now["guests"].items() if guest == one.made.get("guests", {}).get(vmid)}
    for vmid in set(now["guests"]) - kept:
        _remove(one, now["guests"][vmid])
    for volid, volume in now["volumes"].items():
        if volid not in one.made.get("volumes", {}) and str(volume["vmid"]) in {*kept, "107"}:
            one.do("DELETE", f"nodes/pve/storage/{volid.partition(':')[0]}/content/{volid}")
    one.clear()
    _remake_mappings(one, now["mappings"]["pci"])
    if lab.name not in now["pools"]:
        pve.call("POST", "pools", poolid=lab.name, comment="the lab")
    pve.call("PUT", "cluster/firewall/options", enable=1)
    one.put("import", f"{lab.name}-{lab.foundation.image.file_name}")
    for spec in lab.guests():
        one.put("snippets", _snippet(one, spec))
        if str(spec.settings.vmid) not in kept:
            _make_guest(one, spec)
        pve.call("PUT", f"nodes/pve/qemu/{spec.settings.vmid}/firewall/options", enable=1, policy_in="DROP")
    for name in set(now["pools"]) - {lab.name}:
        pve.call("DELETE", f"pools/{name}")
    one.made = one.snapshot()


def _remake_mappings(one: DriftLab, now: dict[str, Any]) -> None:
    mapped = {f"{one.lab.name}-gpu-{end}": text for end, text in MAPPED.items()}
    for name, mapping in now.items():
        if mapping.get("map") != [mapped.get(name)]:
            one.pve.call("DELETE", f"cluster/mapping/pci/{name}")
        else:
            del mapped[name]
    for name, text in mapped.items():
        one.pve.call("POST", "cluster/mapping/pci", id=name, map=text)


def _remove(one: DriftLab, guest: dict[str, Any]) -> None:
    if guest["lock"]:
        one.control("DELETE", f"guests/{guest['vmid']}/lock")
    path = f"nodes/pve/{guest['kind']}/{guest['vmid']}"
    if guest["status"] == "running":
        one.do("POST", f"{path}/status/stop")
    one.do("DELETE", path, purge=1)


def _snippet(one: DriftLab, spec: GuestSpec) -> str:
    return f"{one.lab.name}-{spec.name}-user-data.yaml"


def _make_guest(one: DriftLab, spec: GuestSpec) -> None:
    gpu = {
        "bios": "ovmf",
        "machine": "q35",
        "efidisk0": "local-lvm:1,efitype=4m",
        "hostpci0": f"mapping={one.lab.name}-gpu-vga,pcie=1",
    }
    one.do(
        "POST",
        "nodes/pve/qemu",
        vmid=spec.settings.vmid,
        name=spec.name,
        memory=512,
        cores=1,
        pool=one.lab.name,
        # No role: nothing needs to run behind these guests.
        tags=f"{one.lab.name};labctl",
        agent="enabled=1",
        virtio0="local-lvm:8",
        ide2="local-lvm:cloudinit",
        net0="virtio,bridge=vmbr0,firewall=1",
        ipconfig0=f"ip={spec.address}",
        cicustom=f"user=local:snippets/{_snippet(one, spec)}",
        start=1,
        **(gpu if spec.name == "docker" else {}),
    )


def _state(lab: Lab, layer: str) -> dict[str, Any]:
    """The state of a layer with the attributes that count here, as bpg/proxmox writes them."""
    rows: list[tuple[str, str, dict[str, Any]]] = []
    for spec in (spec for spec in lab.guests() if spec.layer == layer):
        vmid, snippet = spec.settings.vmid, f"local:snippets/{lab.name}-{spec.name}-user-data.yaml"
        machine = {"vm_id": vmid, "name": spec.name, "node_name": "pve", "pool_id": lab.name, "started": True, "template": False}
        rows += [
            ("proxmox_virtual_environment_vm", spec.name, machine),
            ("proxmox_virtual_environment_file", spec.name, {"id": snippet}),
            ("proxmox_virtual_environment_firewall_options", spec.name, {"vm_id": vmid, "enabled": True}),
        ]
    if layer == "foundation":
        image = f"local:import/{lab.name}-{lab.foundation.image.file_name}"
        rows += [
            ("proxmox_virtual_environment_pool", "lab", {"pool_id": lab.name}),
            ("proxmox_download_file", "image", {"id": image}),
        ]
    else:
        rows += [("proxmox_hardware_mapping_pci", f"gpu_{end}", {"name": f"{lab.name}-gpu-{end}"}) for end in MAPPED]
    return {
        "version": 4,
        "serial": 1,
        "resources": [
            {"mode": "managed", "type": kind, "name": name, "instances": [{"attributes": values}]} for kind, name, values in rows
        ],
    }
