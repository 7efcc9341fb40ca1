"""The emulated hypervisor as one object: state, tasks, datastores, sessions, permissions, and the guests behind it."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from labctl.model.guestfiles import ROLES
from labctl.sandbox.guests.runtime import GuestRuntime, GuestSpec
from labctl.sandbox.pve import privileges
from labctl.sandbox.pve.errors import ApiError, forbidden
from labctl.sandbox.pve.faults import Faults
from labctl.sandbox.pve.formats import mac_of, parse_properties, parse_size
from labctl.sandbox.pve.identity import Sessions
from labctl.sandbox.pve.state import Firewall, Guest, State, StateFile
from labctl.sandbox.pve.storage import Datastores
from labctl.sandbox.pve.tasks import Tasks
from labctl.sandbox.settings import SandboxConfig

CONFIG_FOLDERS = {"qemu": "qemu-server", "lxc": "lxc"}


class Host:
    """The emulated node. `fingerprint` is that of the API's certificate, `unserved` the calls that nothing serves.

    Args:
        config: Name, bridge, addresses.
        file: Where the state lies.
        chroot: The folder that stands for the node's `/`.
        runtime: What runs behind the guests.
    """

    def __init__(self, config: SandboxConfig, file: StateFile, chroot: Path, runtime: GuestRuntime) -> None:
        self.config = config
        self.node = config.node
        self.runtime = runtime
        self.state: State = file.load()
        self.faults = Faults()
        self.sessions = Sessions()
        self.datastores = Datastores(self.state, chroot)
        self.tasks = Tasks(self.state, self.node, self.faults, self.save)
        self.unserved: list[str] = []
        self.fingerprint = ""
        self._file = file

    def save(self) -> None:
        """Write the state to disk."""
        self._file.save(self.state)

    def permissions(self, caller: str, path: str) -> Mapping[str, int]:
        """The caller's privileges on a path."""
        return privileges.permissions(self.state, caller, path)

    def require(self, caller: str, path: str, *names: str, any_of: bool = False) -> None:
        """Stop unless the caller has all (or any) of the privileges on a path.

        Raises:
            ApiError: 403.
        """
        held = self.permissions(caller, path)
        missing = [name for name in names if name not in held]
        if any_of and len(missing) == len(names):
            raise forbidden(path, *names)
        if missing and not any_of:
            raise forbidden(path, missing[0])

    def guest(self, vmid: int | str, kind: str) -> Guest:
        """A guest.

        Raises:
            ApiError: 500, there is none of this kind.
        """
        guest = self.state.guests.get(str(vmid))
        if guest is None or guest.kind != kind:
            raise self.no_guest(vmid, kind, self.node)
        return guest

    def no_guest(self, vmid: int | str, kind: str, node: str) -> ApiError:
        """The refusal for a guest that is not on a node."""
        return ApiError(500, f"Configuration file 'nodes/{node}/{CONFIG_FOLDERS[kind]}/{vmid}.conf' does not exist")

    def node_of(self, guest: Guest) -> str:
        """The node that a guest is on."""
        return guest.node or self.node

    def online(self, node: str) -> bool:
        """Whether a node of the cluster answers."""
        return node == self.node or self.state.nodes.get(node, False)

    def require_unlocked(self, guest: Guest) -> None:
        """Stop if a guest is locked.

        Raises:
            ApiError: 500.
        """
        if guest.lock:
            raise ApiError(500, f"{'VM' if guest.kind == 'qemu' else 'CT'} is locked ({guest.lock})")

    def firewall(self, scope: str) -> Firewall:
        """The firewall of `cluster`, `node` or `qemu/201`."""
        return self.state.firewalls.setdefault(scope, Firewall())

    # ------------------------------------------------------------ guests as the runtime sees them

    def address_of(self, guest: Guest) -> tuple[str, int]:
        """A guest's address and prefix: the static one of `ipconfig0`, else a lease that only depends on its id."""
        network = self.config.subnet
        key = "ipconfig0" if guest.kind == "qemu" else "net0"
        static = parse_properties(guest.config.get(key, "")).get("ip", "dhcp")
        if static not in {"dhcp", "manual", ""}:
            address, _, prefix = static.partition("/")
            return address, int(prefix or network.prefixlen)
        if guest.kind == "lxc":
            # Nothing runs behind a container, and the provider waits at every refresh for an address that is no loopback.
            return f"192.0.2.{1 + guest.vmid % 254}", 24
        last = network.num_addresses - 2
        offset = guest.vmid if guest.vmid <= last else 2 + guest.vmid % (last - 1)
        lease = network[offset]
        if str(lease) == self.config.address:
            lease = network[offset - 1]
        return str(lease), network.prefixlen

    def role_of(self, guest: Guest) -> str:
        """The role that a guest's tags name, "" for none."""
        return next((role.name for role in ROLES.values() if role.tag in guest.tags), "")

    def spec(self, guest: Guest) -> GuestSpec:
        """A guest as its runtime sees it."""
        address, prefix = self.address_of(guest)
        user_data = self.user_data(guest)
        return GuestSpec(
            guest.vmid,
            guest.name,
            self.role_of(guest),
            address,
            prefix,
            mac_of(guest.config.get("net0")) or "00:00:00:00:00:00",
            self._fqdn(guest, user_data),
            int(parse_properties(guest.config.get("memory", 512), "current").get("current", 512)),
            cores=int(guest.config.get("cores", 1)) * int(guest.config.get("sockets", 1)),
            user_data=user_data,
            instance_id=hashlib.sha1(f"{user_data}{_network_data(guest)}".encode(), usedforsecurity=False).hexdigest(),
            boots=guest.kind == "qemu",
        )

    def user_data(self, guest: Guest) -> str:
        """What cloud-init of a guest is given: its snippet, else a minimal document."""
        file = self.snippet(guest)
        return file.read_text(errors="replace") if file else f"#cloud-config\nhostname: {guest.name}\nmanage_etc_hosts: true\n"

    def _fqdn(self, guest: Guest, user_data: str) -> str:
        """The full name that cloud-init would set: from the user-data, else the search domain."""
        try:
            document: object = YAML(typ="safe", pure=True).load(user_data)
        except YAMLError:
            document = None
        if isinstance(document, dict) and isinstance(document.get("fqdn"), str):
            return str(document["fqdn"])
        domain = str(guest.config.get("searchdomain", ""))
        return f"{guest.name}.{domain}" if domain else guest.name

    def snippet(self, guest: Guest) -> Path | None:
        """The user-data file of a guest.

        Raises:
            ApiError: 500, the config names one that is not there.
        """
        volid = parse_properties(guest.config.get("cicustom", "")).get("user", "")
        if not volid:
            return None
        file = self.datastores.file_of(volid)
        if file is None or not file.is_file():
            raise ApiError(500, f"volume '{volid}' does not exist")
        return file

    def status(self, guest: Guest, now: float) -> dict[str, object]:
        """What status calls and listings say about a guest."""
        config = guest.config
        cores = int(config.get("cores", 1)) * int(config.get("sockets", 1))
        memory = int(parse_properties(config.get("memory", 512), "current").get("current", 512)) * 2**20
        size = next((parse_properties(value)["size"] for key, value in sorted(config.items()) if _is_disk(key, value)), "0")
        answer: dict[str, object] = {
            "vmid": guest.vmid,
            "name": guest.name,
            "status": guest.status,
            "cpus": cores,
            "cpu": round(random.uniform(0.001, 0.02), 4) if guest.running else 0,  # noqa: S311  (a load figure, nothing secret)
            "maxmem": memory,
            "mem": memory // 8 if guest.running else 0,
            "maxdisk": parse_size(size),
            "disk": 0,
            "diskread": 0,
            "diskwrite": 0,
            "netin": 0,
            "netout": 0,
            "uptime": int(now - guest.started_at) if guest.running else 0,
        }
        if guest.kind == "qemu":
            answer["memhost"] = answer["mem"]
        if guest.tags:
            answer["tags"] = ";".join(guest.tags)
        if guest.running:
            answer["pid"] = 10_000 + zlib.crc32(str(guest.vmid).encode()) % 50_000
        if guest.lock:
            answer["lock"] = guest.lock
        if config.get("template"):
            answer["template"] = 1
        return answer


def _network_data(guest: Guest) -> str:
    """What PVE makes its network document of; the instance-id follows it too (PVE/QemuServer/Cloudinit.pm)."""
    keys = [key for key in sorted(guest.config) if key.startswith(("net", "ipconfig", "nameserver", "searchdomain"))]
    return "".join(f"{key}={guest.config[key]}\n" for key in keys)


def _is_disk(key: str, value: object) -> bool:
    return (
        key.rstrip("0123456789") in {"virtio", "scsi", "sata", "ide", "rootfs"}
        and "size=" in str(value)
        and "media=cdrom" not in str(value)
    )
