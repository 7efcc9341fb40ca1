"""Changes that a check of the hypervisor must name, and those that it must not: the tables of docs/drift-proxmox.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from labctl.model.drift.finding import Kind, Severity

if TYPE_CHECKING:
    from .driftlab import DriftLab

VM = "proxmox_virtual_environment_vm"
C, M, U, MOVED, EXP = Kind.CHANGED, Kind.MISSING, Kind.UNMANAGED, Kind.MOVED, Kind.EXPIRING
HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW


@dataclass(frozen=True)
class Seeded:
    """A change, and what comes of it: kind, id, severity; "attribute" where one differs."""

    title: str
    change: Callable[[DriftLab], object]
    kind: Kind
    id: str
    severity: Severity
    attribute: str = ""


@dataclass(frozen=True)
class Harmless:
    """A change that is nobody's business here; `note` is part of the note that it may leave."""

    title: str
    change: Callable[[DriftLab], object]
    note: str = ""


def _vm(vmid: int, name: str, **fields: object) -> Callable[[DriftLab], object]:
    return lambda lab: lab.do("POST", "nodes/pve/qemu", vmid=vmid, name=name, memory=512, **fields)


def _instead(lab: DriftLab) -> None:
    """The lab's guest is gone, and a container has its VMID."""
    lab.delete(201)
    lab.put("template/cache", "debian.tar.zst")
    lab.do("POST", "nodes/pve/lxc", vmid=201, hostname="squatter", ostemplate="local:vztmpl/debian.tar.zst", rootfs="local-lvm:1")


def _other_pool(lab: DriftLab) -> None:
    lab.do("POST", "pools", poolid="elsewhere")
    lab.do("PUT", "pools", poolid="elsewhere", vms=201, **{"allow-move": 1})


def _no_pool(lab: DriftLab) -> None:
    lab.do("PUT", "pools", poolid="driftlab", vms="101,102,201,202", delete=1)
    lab.do("DELETE", "pools/driftlab")
    lab.do("POST", "pools", poolid="elsewhere")
    lab.do("PUT", "pools", poolid="elsewhere", vms="101,102,201,202")
    # Their pool is the other case's matter.
    for state in lab.states.values():
        for row in (state.document or {})["resources"]:
            if row["type"] == VM:
                row["instances"][0]["attributes"]["pool_id"] = "elsewhere"


def _moved(lab: DriftLab) -> None:
    lab.control("POST", "nodes/pve2", online=True)
    lab.control("POST", "guests/201/node", node="pve2")


def _orphan_disk(lab: DriftLab) -> None:
    lab.do("POST", "nodes/pve/storage/local-lvm/content", vmid=107, filename="vm-107-disk-0", size="4G")


def _expire(what: str, days: float) -> Callable[[DriftLab], object]:
    from .driftlab import NOW

    def change(lab: DriftLab) -> None:
        user, _, token = what.partition("!")
        path = f"access/users/{user}/token/{token}" if token else f"access/users/{user}"
        lab.do("PUT", path, expire=int((NOW + timedelta(days=days)).timestamp()))

    return change


def _grant(path: str) -> Callable[[DriftLab], object]:
    return lambda lab: lab.do("PUT", "access/acl", path=path, users="intern@pve", roles="PVEVMAdmin")


def _wide_role(lab: DriftLab) -> None:
    lab.do("POST", "access/roles", roleid="LabctlPool", privs="Pool.Allocate Pool.Audit Sys.Modify")


def _reseated(lab: DriftLab) -> None:
    lab.do("PUT", "cluster/mapping/pci/driftlab-gpu-vga", map="id=10de:2204,iommugroup=14,node=pve,path=0000:02:00.0")


SEEDED = (
    Seeded("a guest of the lab is deleted", lambda lab: lab.delete(201), M, f"{VM}.gitlab", HIGH),
    Seeded("a container takes a VMID of the lab", _instead, U, "lxc/201", HIGH),
    Seeded("a guest is renamed", lambda lab: lab.set(201, name="gitlab-old"), C, f"{VM}.gitlab", LOW, "name"),
    Seeded(
        "a guest is stopped", lambda lab: lab.do("POST", "nodes/pve/qemu/101/status/stop"), C, f"{VM}.store", MEDIUM, "started"
    ),
    Seeded("a guest is put into another pool", _other_pool, C, f"{VM}.gitlab", MEDIUM, "pool_id"),
    Seeded("a guest is moved to another node", _moved, MOVED, f"{VM}.gitlab", MEDIUM, "node_name"),
    Seeded("a guest is made a template", lambda lab: lab.set(201, template=1), C, f"{VM}.gitlab", MEDIUM, "template"),
    Seeded(
        "memory is changed and waits for a restart",
        lambda lab: lab.control("POST", "guests/201/pending", memory="1024"),
        C,
        "qemu/201/pending",
        MEDIUM,
        "memory",
    ),
    Seeded(
        "a device is taken off and waits for a restart",
        lambda lab: lab.control("POST", "guests/202/pending", hostpci0=None),
        C,
        "qemu/202/pending",
        MEDIUM,
        "hostpci0",
    ),
    Seeded(
        "a disk is taken off and kept", lambda lab: lab.set(201, delete="virtio0"), U, "volume/local-lvm:vm-201-disk-0", MEDIUM
    ),
    Seeded(
        "the firewall of a guest is switched off",
        lambda lab: lab.do("PUT", "nodes/pve/qemu/201/firewall/options", enable=0),
        C,
        "proxmox_virtual_environment_firewall_options.gitlab",
        HIGH,
        "enabled",
    ),
    Seeded(
        "the datacenter's firewall is switched off",
        lambda lab: lab.do("PUT", "cluster/firewall/options", enable=0),
        C,
        "firewall/datacenter",
        HIGH,
        "enable",
    ),
    Seeded("a foreign guest in the lab's pool", _vm(105, "nas", pool="driftlab"), U, "qemu/105", MEDIUM),
    Seeded("a foreign guest with the lab's tags", _vm(105, "nas", tags="labctl;driftlab"), U, "qemu/105", MEDIUM),
    Seeded("a foreign guest with the name of one of the lab's", _vm(105, "gitlab"), U, "qemu/105", MEDIUM),
    Seeded("a disk whose guest is gone", _orphan_disk, U, "volume/local-lvm:vm-107-disk-0", LOW),
    Seeded(
        "a second disk of a guest that its configuration does not name",
        lambda lab: lab.do("POST", "nodes/pve/storage/local-lvm/content", vmid=201, filename="vm-201-disk-9", size="4G"),
        U,
        "volume/local-lvm:vm-201-disk-9",
        MEDIUM,
    ),
    Seeded(
        "a snippet is removed",
        lambda lab: lab.do("DELETE", "nodes/pve/storage/local/content/local:snippets/driftlab-gitlab-user-data.yaml"),
        M,
        "proxmox_virtual_environment_file.gitlab",
        HIGH,
    ),
    Seeded(
        "the cloud image is removed",
        lambda lab: lab.do(
            "DELETE", f"nodes/pve/storage/local/content/local:import/driftlab-{lab.lab.foundation.image.file_name}"
        ),
        M,
        "proxmox_download_file.image",
        MEDIUM,
    ),
    Seeded(
        "a snippet with the lab's name that no stack has made",
        lambda lab: lab.put("snippets", "driftlab-old-user-data.yaml"),
        U,
        "volume/local:snippets/driftlab-old-user-data.yaml",
        LOW,
    ),
    Seeded(
        "an image with the lab's name that no stack has made",
        lambda lab: lab.put("import", "driftlab-debian-12.qcow2"),
        U,
        "volume/local:import/driftlab-debian-12.qcow2",
        LOW,
    ),
    Seeded(
        "a PCI mapping of the lab is removed",
        lambda lab: lab.do("DELETE", "cluster/mapping/pci/driftlab-gpu-audio"),
        M,
        "proxmox_hardware_mapping_pci.gpu_audio",
        MEDIUM,
    ),
    Seeded("a PCI mapping names a device that the node has no more", _reseated, C, "mapping/driftlab-gpu-vga/device", MEDIUM),
    Seeded(
        "a PCI mapping with the lab's name that no stack has made",
        lambda lab: lab.do("POST", "cluster/mapping/pci", id="driftlab-gpu-old", map="id=10de:2204,node=pve,path=0000:01:00.0"),
        U,
        "mapping/driftlab-gpu-old",
        LOW,
    ),
    Seeded("the lab's pool is removed", _no_pool, M, "proxmox_virtual_environment_pool.lab", MEDIUM),
    Seeded(
        "the token expires within 14 days", _expire("labctl-drift@pve!nightly", 9), EXP, "token/labctl-drift@pve!nightly", MEDIUM
    ),
    Seeded(
        "another token of a user of labctl's has expired",
        _expire("labctl@pve!labctl-old", -2),
        EXP,
        "token/labctl@pve!labctl-old",
        HIGH,
    ),
    Seeded("a user of labctl's expires within 14 days", _expire("labctl-ci@pve", 13), EXP, "user/labctl-ci@pve", MEDIUM),
    Seeded(
        "a user of labctl's is disabled",
        lambda lab: lab.do("PUT", "access/users/labctl-ci@pve", enable=0),
        C,
        "user/labctl-ci@pve",
        MEDIUM,
        "enable",
    ),
    Seeded("somebody is granted rights on a guest", _grant("/vms/201"), U, "acl/vms/201/intern@pve/PVEVMAdmin", HIGH),
    Seeded(
        "somebody is granted rights on the lab's pool",
        _grant("/pool/driftlab"),
        U,
        "acl/pool/driftlab/intern@pve/PVEVMAdmin",
        HIGH,
    ),
    Seeded("a role of docs/proxmox.md is given more privileges", _wide_role, C, "role/LabctlPool", HIGH, "privileges"),
)

HARMLESS = (
    Harmless("nothing", lambda _lab: None),
    Harmless("a guest is restarted", lambda lab: lab.do("POST", "nodes/pve/qemu/201/status/reboot")),
    Harmless(
        "a guest is stopped and started again",
        lambda lab: [lab.do("POST", f"nodes/pve/qemu/201/status/{action}") for action in ("stop", "start")],
    ),
    Harmless("the agent of a guest reports other addresses", lambda lab: lab.set(201, ipconfig0="ip=127.86.79.77/24")),
    Harmless("tags in another order", lambda lab: lab.set(201, tags="labctl,driftlab")),
    Harmless("another task in the log", lambda lab: lab.do("POST", "nodes/pve/qemu/201/config", description="seen")),
    Harmless("a backup of a guest of the lab", lambda lab: lab.put("dump", "vzdump-qemu-201-2027_02_28-02_00_00.vma.zst")),
    Harmless("a backup of a guest that is long gone", lambda lab: lab.put("dump", "vzdump-qemu-900-2027_02_28-02_00_00.vma.zst")),
    Harmless("the cloud-init drive is made again", lambda lab: lab.do("PUT", "nodes/pve/qemu/201/cloudinit")),
    Harmless("the EFI disk of the guest with the GPU", lambda lab: lab.do("POST", "nodes/pve/qemu/202/status/reboot")),
    Harmless("an installation image is uploaded", lambda lab: lab.put("template/iso", "driftlab.iso")),
    Harmless("somebody else's guest, with disks of its own", _vm(105, "nas", virtio0="local-lvm:8"), "qemu/105 nas"),
    Harmless(
        "somebody else's container",
        lambda lab: (
            lab.put("template/cache", "debian.tar.zst"),
            lab.do(
                "POST", "nodes/pve/lxc", vmid=106, hostname="dns", ostemplate="local:vztmpl/debian.tar.zst", rootfs="local-lvm:1"
            ),
        ),
        "lxc/106 dns",
    ),
    Harmless(
        "a guest of another lab with the same name", _vm(301, "gitlab", tags="labctl;otherlab;role-gitlab"), "qemu/301 gitlab"
    ),
    Harmless("somebody else's snippet", lambda lab: lab.put("snippets", "nas-user-data.yaml")),
    Harmless(
        "a snippet of a lab whose name begins alike",
        lambda lab: (lab.do("POST", "pools", poolid="driftlab-two"), lab.put("snippets", "driftlab-two-vault-user-data.yaml")),
    ),
    Harmless("another pool", lambda lab: lab.do("POST", "pools", poolid="elsewhere")),
    Harmless(
        "somebody else's PCI mapping",
        lambda lab: lab.do("POST", "cluster/mapping/pci", id="nas-hba", map="id=1000:0097,node=pve,path=0000:05:00.0"),
    ),
    Harmless(
        "a guest is locked by a backup", lambda lab: lab.control("POST", "guests/201/lock", lock="backup"), "is locked (backup)"
    ),
    Harmless("the token expires in 15 days", _expire("labctl-drift@pve!nightly", 15)),
    Harmless("somebody else's token has expired", _expire("intern@pve!laptop", -3)),
    Harmless("somebody is granted rights on a guest that is not the lab's", _grant("/vms/900")),
    Harmless(
        "a further node without guests of the lab is off",
        lambda lab: lab.control("POST", "nodes/pve9", online=False),
        "node pve9 is offline",
    ),
)


def tables() -> str:
    """Both tables as docs/drift-proxmox.md has them."""
    seeded = "".join(
        f"| {case.title} | {case.kind} | `{case.id}` | {case.severity} | {f'`{case.attribute}`' * bool(case.attribute)} |\n"
        for case in SEEDED
    )
    harmless = "".join(f"| {case.title} | {f'note: …{case.note}…' * bool(case.note)} |\n" for case in HARMLESS)
    return (
        f"| change | kind | id | severity | attribute |\n|---|---|---|---|---|\n{seeded}\n"
        f"| stays clean | |\n|---|---|\n{harmless}"
    )
