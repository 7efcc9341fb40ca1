"""A virtual machine as the lab makes them: a cloud image, one disk, one network card, a snippet, the guest agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from constructs import Construct

from labctl.model.lab import GuestSpec, Lab
from stacks.cdk import TerraformLocal, TerraformResourceLifecycle
from stacks.constructs.gpu import PciMapping
from stacks.constructs.literal import Expression
from stacks.constructs.resource import Resource
from stacks.constructs.storage import Snippet

# With a static address only pings go to the agent. With DHCP the provider waits for an address this long: a first boot
# installs the agent from the distribution's mirror before it can answer.
_AGENT_TIMEOUT = "10m"

# To Terraform this block is an attribute of objects, and in JSON syntax an object must have all of its attributes. null is
# "not said": the provider's default, and for `mac_address` the one that the hypervisor chose.
_NETWORK_DEVICE = dict.fromkeys(
    ("disconnected", "enabled", "mac_address", "mtu", "queues", "rate_limit", "trunks", "vlan_id"), Expression("null")
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where guests are made and what they are made from. Values may be references.

    Attributes:
        node: The Proxmox node.
        pool_id: The lab's pool.
        image_file_id: The cloud image, `datastore:import/file`.
        snippet_datastore: Where user-data lies.
        disk_datastore: Where disks lie.
        after: Resources that must exist before a guest, because the ids above are literal text.
    """

    node: str
    pool_id: str
    image_file_id: str
    snippet_datastore: str
    disk_datastore: str
    after: tuple[Resource, ...] = ()


class VirtualMachine(Resource):
    """A guest of the lab as a virtual machine.

    Args:
        scope: Where it belongs.
        lab: The lab, for network and tags.
        guest: The guest.
        place: Where it is made.
        snippet: Its user-data.
        gpu: PCI devices that it is given; it then gets the machine and firmware that pass-through needs.
        protect: Whether Terraform itself refuses to destroy it.

    Attributes:
        ip: Its address: text where it is static, else a reference.
        outputs: What a contract publishes of it.
    """

    def __init__(
        self,
        scope: Construct,
        lab: Lab,
        guest: GuestSpec,
        place: Place,
        snippet: Snippet,
        *,
        gpu: Sequence[PciMapping] = (),
        protect: bool = False,
    ) -> None:
        super().__init__(
            scope,
            "proxmox_virtual_environment_vm",
            guest.name,
            {
                "node_name": place.node,
                "vm_id": guest.settings.vmid,
                "name": guest.name,
                "description": f"Guest {guest.name} of lab {lab.name}, made by labctl",
                "tags": sorted({"labctl", lab.name, guest.role.tag}),
                "pool_id": place.pool_id,
                "on_boot": guest.settings.on_boot,
                "started": True,
                # A guest whose agent does not answer would otherwise hold a destroy up for the whole shutdown timeout.
                "stop_on_destroy": True,
                "scsi_hardware": "virtio-scsi-single",
                "boot_order": ["virtio0"],
                "operating_system": {"type": "l26"},
                # Ubuntu's and Debian's cloud images write their console to a serial port, and some stop without one.
                "serial_device": {"device": "socket"},
                **_compute(guest, lab, place, snippet),
                **(_passthrough(gpu, place) if gpu else {}),
            },
            depends_on=[*place.after, snippet],
            lifecycle=_lifecycle(protect=protect, firmware_disk=bool(gpu)),
        )
        self.ip = guest.ip or _leased_address(scope, self, guest.name)
        self.outputs = {"vmid": guest.settings.vmid, "address": self.ip}


def _lifecycle(*, protect: bool, firmware_disk: bool) -> TerraformResourceLifecycle | None:
    if firmware_disk:
        return TerraformResourceLifecycle(prevent_destroy=True) if protect else None
    # The provider never removes the firmware's disk from a guest that had a GPU, and would plan to do so for ever.
    return TerraformResourceLifecycle(prevent_destroy=True if protect else None, ignore_changes=["efi_disk"])


def _compute(guest: GuestSpec, lab: Lab, place: Place, snippet: Snippet) -> dict[str, Any]:
    settings, dhcp = guest.settings, not guest.ip
    dns = {"domain": lab.network.domain, "servers": [*lab.network.dns] or None}
    gateway = str(lab.network.gateway) if lab.network.gateway and not dhcp else None
    return {
        "cpu": {"cores": settings.cores, "type": settings.cpu_type},
        "memory": {"dedicated": settings.memory_mib, "floating": settings.balloon_mib},
        "agent": {
            "enabled": True,
            "timeout": _AGENT_TIMEOUT,
            "wait_for_ip": None if dhcp else {"disabled": True},
        },
        "disk": {
            "datastore_id": place.disk_datastore,
            "interface": "virtio0",
            "import_from": place.image_file_id,
            "size": settings.disk_gib,
            "iothread": True,
            "discard": "on",
        },
        "network_device": [_NETWORK_DEVICE | {"bridge": lab.network.bridge, "model": "virtio", "firewall": True}],
        "initialization": {
            "datastore_id": place.disk_datastore,
            "interface": "ide2",
            "ip_config": {"ipv4": {"address": guest.address, "gateway": gateway}},
            "dns": dns,
            "user_data_file_id": snippet.file_id,
        },
    }


def _passthrough(gpu: Sequence[PciMapping], place: Place) -> dict[str, Any]:
    return {
        "machine": "q35",
        "bios": "ovmf",
        "efi_disk": {"datastore_id": place.disk_datastore, "type": "4m", "pre_enrolled_keys": False},
        "hostpci": [
            {"device": f"hostpci{index}", "mapping": device.mapping, "pcie": True, "rombar": True}
            for index, device in enumerate(gpu)
        ],
    }


def _leased_address(scope: Construct, vm: Resource, name: str) -> str:
    """The first address beyond loopback that the guest's agent reports, as a reference; "" while the guest is switched off."""
    first = f'try([for ip in flatten({vm.address}.ipv4_addresses) : ip if ip != "127.0.0.1"][0], "")'
    return TerraformLocal(scope, f"{name}_address", Expression(first)).as_string
