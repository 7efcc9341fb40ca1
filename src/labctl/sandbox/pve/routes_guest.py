"""`/nodes/{node}/qemu` and `/nodes/{node}/lxc`: guests, their configuration, their power."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labctl.sandbox.guests.runtime import GuestError
from labctl.sandbox.pve import power
from labctl.sandbox.pve.errors import ApiError, TaskError, invalid
from labctl.sandbox.pve.formats import digest, parse_properties, truthy
from labctl.sandbox.pve.guest_rights import changed_options, check_create, check_options
from labctl.sandbox.pve.hardware import configure, identify, resize, shown, verify_properties
from labctl.sandbox.pve.hardware_schema import LXC_CREATE, LXC_UPDATE, NOT_CONFIG, QEMU_CREATE, QEMU_UPDATE
from labctl.sandbox.pve.routes_cluster import visible
from labctl.sandbox.pve.routing import Call, Check, perm, route
from labctl.sandbox.pve.schema import BOOL, NATURAL, TEXT, VMID, Param
from labctl.sandbox.pve.state import Guest, Task

if TYPE_CHECKING:
    from collections.abc import Callable

_ONE = {"vmid": VMID.must()}
_AUDIT = perm("/vms/{vmid}", "VM.Audit")
_POWER = perm("/vms/{vmid}", "VM.PowerMgmt")
WORKERS = {"qemu": "qm", "lxc": "vz"}


def _both(
    method: str, path: str, qemu: dict[str, Param], lxc: dict[str, Param], check: Check | None = None
) -> Callable[..., object]:
    """Register a function under `/qemu…` and `/lxc…`; it gets the kind as its second argument."""

    def register(handler: Callable[[Call, str], object]) -> Callable[[Call, str], object]:
        route(method, f"/nodes/{{node}}/qemu{path}", qemu, check=check)(lambda call: handler(call, "qemu"))
        route(method, f"/nodes/{{node}}/lxc{path}", lxc, check=check)(lambda call: handler(call, "lxc"))
        return handler

    return register


@_both("GET", "", {"full": BOOL}, {})
def list_guests(call: Call, kind: str) -> object:
    """The guests of a kind that the caller may see."""
    now = time.time()
    return [
        call.host.status(guest, now)
        for guest in call.host.state.guests.values()
        if guest.kind == kind and visible(call, guest) and call.host.node_of(guest) == call.node
    ]


@_both("POST", "", QEMU_CREATE, LXC_CREATE)
def create(call: Call, kind: str) -> object:
    """Make a guest. PVE checks the rights first, then the id, then each disk inside the task."""
    host, vmid, pool = call.host, call.number("vmid"), call.text("pool")
    check_create(call)
    options = call.body(*NOT_CONFIG)
    check_options(call, options if kind == "qemu" else (), options, pool=pool)
    verify_properties(options)
    if pool and pool not in host.state.pools:
        raise ApiError(500, f"pool '{pool}' does not exist")
    word = "VM" if kind == "qemu" else "CT"
    if str(vmid) in host.state.guests:
        raise ApiError(
            500,
            f"unable to create {word} {vmid} - {_word(host.state.guests[str(vmid)])} {vmid} already exists on node '{host.node}'",
        )
    _check_disks(call, options)
    if kind == "lxc":
        host.datastores.volume(call.text("ostemplate"))
    guest = Guest(vmid, kind, call.text("name") or call.text("hostname") or f"{word}{vmid}", pool=pool, lock="create")
    host.state.guests[str(vmid)] = guest

    def discard() -> None:
        host.datastores.remove_guest(vmid)
        host.state.guests.pop(str(vmid), None)

    async def body(task: Task) -> None:
        guest.lock = ""
        try:
            configure(host, guest, options)
            identify(guest)
        except ApiError as error:
            discard()
            raise TaskError(f"unable to create {word} {vmid} - {error.message}") from error
        if call.flag("start"):
            await power.start(host, guest, task)

    return host.tasks.start(f"{WORKERS[kind]}create", vmid, call.caller, body, undo=discard)


def _word(guest: Guest) -> str:
    return "VM" if guest.kind == "qemu" else "CT"


def _check_disks(call: Call, options: dict[str, str]) -> None:
    """Refuse at once what PVE refuses before its task: a storage that is not there."""
    for option, value in options.items():
        file = parse_properties(value, "file").get("file", "")
        if (
            option.rstrip("0123456789") in {"virtio", "scsi", "sata", "ide", "efidisk", "tpmstate", "rootfs", "mp"}
            and ":" in file
        ):
            call.host.datastores.get(file.partition(":")[0])


@_both(
    "DELETE",
    "/{vmid}",
    {**_ONE, "destroy-unreferenced-disks": BOOL, "purge": BOOL, "skiplock": BOOL},
    {**_ONE, "destroy-unreferenced-disks": BOOL, "purge": BOOL, "force": BOOL},
)
def remove(call: Call, kind: str) -> object:
    """Remove a stopped guest with its disks and its firewall."""
    call.require(f"/vms/{call.text('vmid')}", "VM.Allocate")
    host, guest = call.host, call.host.guest(call.text("vmid"), kind)
    if truthy(guest.config.get("protection")):
        raise ApiError(500, f"can't remove {_word(guest)} {guest.vmid} - protection mode enabled")
    if guest.running:
        raise ApiError(500, f"{_word(guest)} {guest.vmid} is running - destroy failed")

    async def body(_task: Task) -> None:
        host.require_unlocked(guest)
        if guest.running:
            raise TaskError(f"{_word(guest)} {guest.vmid} is running - destroy failed")
        try:
            await host.runtime.delete(guest.vmid)
        except GuestError as error:
            raise TaskError(f"destroy failed: {error}") from error
        host.datastores.remove_guest(guest.vmid)
        host.state.guests.pop(str(guest.vmid), None)
        host.state.firewalls.pop(f"{kind}/{guest.vmid}", None)
        if call.flag("purge"):
            host.state.acl = [entry for entry in host.state.acl if entry.path != f"/vms/{guest.vmid}"]

    return host.tasks.start(f"{WORKERS[kind]}destroy", guest.vmid, call.caller, body)


@_both("GET", "/{vmid}/config", {**_ONE, "current": BOOL, "snapshot": TEXT}, {**_ONE, "current": BOOL, "snapshot": TEXT}, _AUDIT)
def get_config(call: Call, kind: str) -> object:
    """A guest's configuration as of its next start; with `current`, as it runs."""
    guest = call.host.guest(call.text("vmid"), kind)
    config = shown(guest)
    if call.flag("current"):
        config = {key: value for key, value in {**config, **guest.effective}.items() if value is not None}
    return {**config, "digest": digest(config)}


@_both("GET", "/{vmid}/pending", _ONE, _ONE, _AUDIT)
def pending(call: Call, kind: str) -> object:
    """A guest's configuration as a list, with what waits for its next start: nothing but what the control address made wait."""
    guest = call.host.guest(call.text("vmid"), kind)
    config, found = shown(guest), []
    for key in sorted({*config, *guest.effective}):
        now = guest.effective.get(key, config.get(key))
        entry = {"key": key, **({"value": now} if now is not None else {})}
        if key in guest.effective:
            entry |= {"pending": config[key]} if key in config else {"delete": 1}
        found.append(entry)
    return found


def _update(call: Call, kind: str) -> tuple[Guest, dict[str, str]]:
    options = {**call.body(*NOT_CONFIG, "vmid"), **({"delete": ",".join(call.items("delete"))} if call.items("delete") else {})}
    check_options(
        call, changed_options(options) if kind == "qemu" else (), {key: options[key] for key in options if key != "delete"}
    )
    if kind == "lxc":
        call.require(
            f"/vms/{call.text('vmid')}",
            "VM.Config.Options",
            "VM.Config.Disk",
            "VM.Config.Network",
            "VM.Config.CPU",
            "VM.Config.Memory",
            any_of=True,
        )
    guest = call.host.guest(call.text("vmid"), kind)
    verify_properties(options)
    if call.text("digest") not in {"", digest(shown(guest))}:
        raise ApiError(500, "detected modified configuration - file changed by other user? Try again.")
    call.host.require_unlocked(guest)
    _check_disks(call, options)
    return guest, options


@_both("PUT", "/{vmid}/config", {**QEMU_UPDATE, **_ONE}, {**LXC_UPDATE, **_ONE})
def set_config(call: Call, kind: str) -> None:
    """Change a guest's configuration."""
    guest, options = _update(call, kind)
    configure(call.host, guest, options)


@route("POST", "/nodes/{node}/qemu/{vmid}/config", {**QEMU_UPDATE, **_ONE})
def set_config_in_task(call: Call) -> object:
    """Change a VM's configuration in a task."""
    guest, options = _update(call, "qemu")

    def body(_task: Task) -> None:
        call.host.require_unlocked(guest)
        configure(call.host, guest, options)

    return call.host.tasks.start("qmconfig", guest.vmid, call.caller, body)


_RESIZE = {**_ONE, "disk": TEXT.must(), "size": Param(pattern=r"\+?\d+(\.\d+)?[KMGT]?", required=True), "digest": TEXT}


@_both("PUT", "/{vmid}/resize", {**_RESIZE, "skiplock": BOOL}, _RESIZE, perm("/vms/{vmid}", "VM.Config.Disk"))
def grow(call: Call, kind: str) -> object:
    """Grow a disk."""
    guest = call.host.guest(call.text("vmid"), kind)
    if call.text("disk") not in guest.config:
        raise invalid(disk=f"disk '{call.text('disk')}' does not exist\n")
    call.host.require_unlocked(guest)

    def body(_task: Task) -> None:
        call.host.require_unlocked(guest)
        resize(call.host, guest, call.text("disk"), call.text("size"))

    return call.host.tasks.start("resize", guest.vmid, call.caller, body)


@_both("GET", "/{vmid}/status/current", _ONE, _ONE, _AUDIT)
def current(call: Call, kind: str) -> object:
    """Whether a guest runs, and its load."""
    guest = call.host.guest(call.text("vmid"), kind)
    answer = {**call.host.status(guest, time.time()), "ha": {"managed": 0}}
    if guest.running:
        # Pressure stall figures are new in PVE 9; nothing here is ever short of anything. A container's are text.
        idle: object = 0 if kind == "qemu" else "0.00"
        answer |= {f"pressure{what}{how}": idle for what in ("cpu", "io", "memory") for how in ("some", "full")}
    if kind == "lxc":
        return {**answer, "type": "lxc", "swap": 0, "maxswap": int(guest.config.get("swap", 512)) * 2**20}
    answer |= {"qmpstatus": guest.status, "clipboard": None, "balloon": answer["maxmem"]}
    if agent_enabled(guest):
        answer["agent"] = 1
    if any(key.startswith("serial") for key in guest.config):
        answer["serial"] = 1
    if guest.running:
        answer |= {"running-machine": "pc-q35-10.0+pve0", "running-qemu": "10.0.2"}
    return answer


def agent_enabled(guest: Guest) -> bool:
    """Whether a VM's config has the guest agent on."""
    return truthy(parse_properties(guest.config.get("agent", ""), "enabled").get("enabled", "0"))


_ACTION: dict[str, Param] = {
    **_ONE,
    "action": Param(required=True),
    "skiplock": BOOL,
    "timeout": NATURAL,
    "forceStop": BOOL,
    "keepActive": BOOL,
    "overrule-shutdown": BOOL,
    "machine": TEXT,
    "force-cpu": TEXT,
    "stateuri": TEXT,
    "debug": BOOL,
    "migratedfrom": TEXT,
}
_ACTIONS = ("start", "stop", "shutdown", "reboot", "reset")


@_both("POST", "/{vmid}/status/{action}", _ACTION, _ACTION, _POWER)
def act(call: Call, kind: str) -> object:
    """Start, stop, shut down, reboot or reset a guest."""
    host, action = call.host, call.text("action")
    if action not in _ACTIONS or (kind == "lxc" and action == "reset"):
        raise ApiError(501, f"Method 'POST /nodes/{host.node}/{kind}/{call.text('vmid')}/status/{action}' not implemented")
    guest = host.guest(call.text("vmid"), kind)
    host.require_unlocked(guest)
    if not guest.running and action in {"shutdown", "reboot", "reset"}:
        raise ApiError(500, f"{_word(guest)} {guest.vmid} not running")
    if guest.running and action == "start":
        raise ApiError(500, f"{_word(guest)} {guest.vmid} already running")

    async def body(task: Task) -> None:
        if action == "start":
            await power.start(host, guest, task)
        elif action in {"reboot", "reset"}:
            await power.reboot(host, guest, task)
        else:
            grace_s = power.SHUTDOWN_GRACE_S if action == "shutdown" else power.STOP_GRACE_S
            await power.stop(host, guest, task, grace_s=grace_s)

    return host.tasks.start(f"{WORKERS[kind]}{action}", guest.vmid, call.caller, body)


@_both("GET", "/{vmid}/snapshot", _ONE, _ONE, _AUDIT)
def snapshots(call: Call, kind: str) -> object:
    """Snapshots: only the running state, the sandbox takes none."""
    guest = call.host.guest(call.text("vmid"), kind)
    return [{"name": "current", "description": "You are here!", "running": int(guest.running), "digest": digest(shown(guest))}]


@route("GET", "/nodes/{node}/qemu/{vmid}/cloudinit", _ONE, check=_AUDIT)
def cloudinit_pending(call: Call) -> object:
    """The cloud-init options, none of them pending."""
    guest = call.host.guest(call.text("vmid"), "qemu")
    return [
        {"key": key, "value": value}
        for key, value in shown(guest).items()
        if key.startswith(("ci", "ipconfig", "sshkeys", "nameserver", "searchdomain"))
    ]


@route("PUT", "/nodes/{node}/qemu/{vmid}/cloudinit", _ONE, check=perm("/vms/{vmid}", "VM.Config.Cloudinit"))
def cloudinit_regenerate(call: Call) -> None:
    """Make the cloud-init drive anew: nothing to do, it is read when the guest starts."""
    call.host.guest(call.text("vmid"), "qemu")


@route(
    "GET",
    "/nodes/{node}/qemu/{vmid}/cloudinit/dump",
    {**_ONE, "type": Param(choices=("user", "network", "meta"), required=True)},
    check=_AUDIT,
)
def cloudinit_dump(call: Call) -> object:
    """The user-data of a VM; for other parts and VMs without a snippet a minimal document."""
    guest = call.host.guest(call.text("vmid"), "qemu")
    if call.text("type") == "user":
        return call.host.user_data(guest)
    return f"instance-id: {call.host.spec(guest).instance_id}\n" if call.text("type") == "meta" else "version: 1\nconfig: []\n"


@route("GET", "/nodes/{node}/lxc/{vmid}/interfaces", _ONE, check=_AUDIT)
def interfaces(call: Call) -> object:
    """The addresses of a running container."""
    guest = call.host.guest(call.text("vmid"), "lxc")
    if not guest.running:
        return None
    spec = call.host.spec(guest)
    name = parse_properties(guest.config.get("net0", "")).get("name", "eth0")
    return [_interface("lo", "00:00:00:00:00:00", "127.0.0.1", 8), _interface(name, spec.mac.lower(), spec.address, spec.prefix)]


def _interface(name: str, mac: str, address: str, prefix: int) -> dict[str, object]:
    return {
        "name": name,
        "hwaddr": mac,
        "hardware-address": mac,
        "inet": f"{address}/{prefix}",
        "ip-addresses": [{"ip-address": address, "ip-address-type": "inet", "prefix": str(prefix)}],
    }
