"""Options of VMs and containers: types, and the privilege that each needs (pve-docs: qm.conf(5), pct.conf(5); PVE 9)."""

from __future__ import annotations

from labctl.sandbox.pve.schema import BOOL, CONFIG_ID, DNS_NAME, INT, NATURAL, NUMBER, STORAGE_ID, TEXT, VMID, Param

_POSITIVE = Param("integer", minimum=1)
_DISKS = {
    "ide[n]": TEXT,
    "sata[n]": TEXT,
    "scsi[n]": TEXT,
    "virtio[n]": TEXT,
    "unused[n]": TEXT,
    "efidisk0": TEXT,
    "tpmstate0": TEXT,
}
_CPU = {
    "affinity": TEXT,
    "cores": _POSITIVE,
    "cpu": TEXT,
    "cpulimit": Param("number", minimum=0, maximum=128),
    "cpuunits": Param("integer", minimum=1, maximum=262144),
    "numa": BOOL,
    "numa[n]": TEXT,
    "sockets": _POSITIVE,
    "vcpus": _POSITIVE,
}
_MEMORY = {
    "balloon": NATURAL,
    "hugepages": Param(choices=("any", "2", "1024")),
    "keephugepages": BOOL,
    "memory": TEXT,
    "shares": Param("integer", minimum=0, maximum=50000),
}
_HARDWARE = {
    "acpi": BOOL,
    "audio0": TEXT,
    "hostpci[n]": TEXT,
    "hotplug": TEXT,
    "kvm": BOOL,
    "machine": TEXT,
    "rng0": TEXT,
    "scsihw": Param(choices=("lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi")),
    "serial[n]": Param(pattern=r"/dev/.+|socket"),
    "smbios1": TEXT,
    "tablet": BOOL,
    "usb[n]": TEXT,
    "vga": TEXT,
    "virtiofs[n]": TEXT,
    "watchdog": TEXT,
}
_OPTIONS = {
    "agent": TEXT,
    "autostart": BOOL,
    "bios": Param(choices=("seabios", "ovmf")),
    "description": Param(max_length=8192),
    "keyboard": TEXT,
    "localtime": BOOL,
    "migrate_downtime": NUMBER,
    "migrate_speed": NATURAL,
    "name": DNS_NAME,
    "onboot": BOOL,
    "ostype": Param(
        choices=("other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26", "solaris")
    ),
    "protection": BOOL,
    "reboot": BOOL,
    "spice_enhancements": TEXT,
    "startdate": TEXT,
    "startup": TEXT,
    "tags": TEXT,
    "tdf": BOOL,
    "template": BOOL,
    "vmgenid": TEXT,
}
_CLOUDINIT = {
    "cicustom": TEXT,
    "cipassword": TEXT,
    "citype": Param(choices=("configdrive2", "nocloud", "opennebula")),
    "ciupgrade": BOOL,
    "ciuser": TEXT,
    "ipconfig[n]": TEXT,
    "nameserver": TEXT,
    "searchdomain": TEXT,
    "sshkeys": TEXT,
}
_BOOT = {"boot": TEXT, "bootdisk": TEXT, "cdrom": TEXT, "vmstatestorage": STORAGE_ID}
_ROOT_ONLY = {
    "amd-sev": TEXT,
    "arch": Param(choices=("x86_64", "aarch64")),
    "args": TEXT,
    "hookscript": TEXT,
    "ivshmem": TEXT,
    "lock": TEXT,
    "parallel[n]": TEXT,
}

QEMU_OPTIONS: dict[str, Param] = {
    **_DISKS,
    **_CPU,
    **_MEMORY,
    **_HARDWARE,
    **_OPTIONS,
    **_CLOUDINIT,
    **_BOOT,
    **_ROOT_ONLY,
    "net[n]": TEXT,
    "freeze": BOOL,
}

QEMU_PRIVILEGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys([*_DISKS, *_BOOT], ("VM.Config.Disk",)),
    **dict.fromkeys(_CPU, ("VM.Config.CPU",)),
    **dict.fromkeys(_MEMORY, ("VM.Config.Memory",)),
    **dict.fromkeys(_HARDWARE, ("VM.Config.HWType",)),
    **dict.fromkeys(_OPTIONS, ("VM.Config.Options",)),
    **dict.fromkeys(_CLOUDINIT, ("VM.Config.Cloudinit", "VM.Config.Network")),
    "net[n]": ("VM.Config.Network",),
    "freeze": ("VM.PowerMgmt",),
}
"""Any one of the privileges is enough. An option that is not here is root's alone."""

LXC_OPTIONS: dict[str, Param] = {
    "arch": Param(choices=("amd64", "i386", "arm64", "armhf", "riscv32", "riscv64")),
    "cmode": Param(choices=("shell", "console", "tty")),
    "console": BOOL,
    "cores": Param("integer", minimum=1, maximum=8192),
    "cpulimit": Param("number", minimum=0, maximum=8192),
    "cpuunits": NATURAL,
    "debug": BOOL,
    "description": Param(max_length=8192),
    "dev[n]": TEXT,
    "entrypoint": TEXT,
    "env": TEXT,
    "features": TEXT,
    "hookscript": TEXT,
    "hostname": DNS_NAME,
    "lock": TEXT,
    "memory": Param("integer", minimum=16),
    "mp[n]": TEXT,
    "nameserver": TEXT,
    "net[n]": TEXT,
    "onboot": BOOL,
    "ostype": TEXT,
    "protection": BOOL,
    "rootfs": TEXT,
    "searchdomain": TEXT,
    "startup": TEXT,
    "swap": NATURAL,
    "tags": TEXT,
    "template": BOOL,
    "timezone": TEXT,
    "tty": NATURAL,
    "unprivileged": BOOL,
    "unused[n]": TEXT,
}

_CREATE = {
    "bwlimit": NATURAL,
    "force": BOOL,
    "pool": CONFIG_ID,
    "start": BOOL,
    "storage": STORAGE_ID,
    "unique": BOOL,
    "vmid": VMID.must(),
}
QEMU_CREATE: dict[str, Param] = {
    **QEMU_OPTIONS,
    **_CREATE,
    "archive": TEXT,
    "ha-managed": BOOL,
    "import-working-storage": STORAGE_ID,
    "live-restore": BOOL,
}
LXC_CREATE: dict[str, Param] = {
    **LXC_OPTIONS,
    **_CREATE,
    "ignore-unpack-errors": BOOL,
    "ostemplate": TEXT.must(),
    "password": TEXT,
    "restore": BOOL,
    "ssh-public-keys": TEXT,
}
_UPDATE = {"delete": Param(many=True), "digest": TEXT, "revert": Param(many=True), "skiplock": BOOL}
QEMU_UPDATE: dict[str, Param] = {
    **QEMU_OPTIONS,
    **_UPDATE,
    "background_delay": INT,
    "force": BOOL,
    "import-working-storage": STORAGE_ID,
}
LXC_UPDATE: dict[str, Param] = {**LXC_OPTIONS, **_UPDATE}
NOT_CONFIG = frozenset(
    {*_CREATE, *_UPDATE, "node", "archive", "ha-managed", "import-working-storage", "live-restore", "background_delay"}
) | {
    "ignore-unpack-errors",
    "ostemplate",
    "password",
    "restore",
    "ssh-public-keys",
}

INTEGER_OPTIONS = frozenset(
    name for table in (QEMU_OPTIONS, LXC_OPTIONS) for name, param in table.items() if param.kind in {"integer", "boolean"}
)


def _parts(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DRIVE = _parts(
    "file aio backup bps bps_rd bps_wr cache detect_zeroes discard format import-from iops iops_max iops_rd iops_rd_max iops_wr "
    "iops_wr_max iothread mbps mbps_max mbps_rd mbps_rd_max mbps_wr mbps_wr_max media product queues replicate rerror ro "
    "scsiblock serial shared size snapshot ssd vendor werror wwn"
)
PROPERTIES: dict[str, frozenset[str]] = {
    "agent": _parts("enabled freeze-fs-on-backup fstrim_cloned_disks type"),
    "cicustom": _parts("meta network user vendor"),
    "efidisk": _parts("file efitype format import-from ms-cert pre-enrolled-keys size"),
    "hostpci": _parts(
        "device-id driver host legacy-igd mapping mdev pcie rombar romfile sub-device-id sub-vendor-id vendor-id x-vga"
    ),
    "ide": _DRIVE,
    "ipconfig": _parts("gw gw6 ip ip6"),
    "net": _parts(
        "bridge e1000 e1000e firewall gw gw6 host-managed hwaddr ip ip6 link_down macaddr model mtu name queues rate rtl8139 "
        "tag trunks type virtio vmxnet3"
    ),
    "sata": _DRIVE,
    "scsi": _DRIVE,
    "tpmstate": _parts("file format import-from size version"),
    "virtio": _DRIVE,
}
"""Parts of property strings, by option without its number."""
