"""`/nodes/{node}`: the node itself and its tasks."""

from __future__ import annotations

import time

from labctl.sandbox.pve.errors import ApiError
from labctl.sandbox.pve.formats import compact, digest
from labctl.sandbox.pve.pci import DEVICES
from labctl.sandbox.pve.privileges import owner_of
from labctl.sandbox.pve.routes_cluster import NODE_CPUS, NODE_DISK, NODE_MEMORY, VERSION, node_summary
from labctl.sandbox.pve.routing import Call, perm, route
from labctl.sandbox.pve.schema import ADDRESS, BOOL, NATURAL, TEXT, VMID, Param
from labctl.sandbox.pve.state import Task

_AUDIT = perm("/nodes/{node}", "Sys.Audit")
_MODIFY = perm("/nodes/{node}", "Sys.Modify")


@route("GET", "/nodes")
def list_nodes(call: Call) -> object:
    """The nodes; without Sys.Audit, and of one that is off, only name and state."""
    return [_listed_node(call, name) for name in (call.host.node, *call.host.state.nodes)]


def _listed_node(call: Call, name: str) -> dict[str, object]:
    online = call.host.online(name)
    entry = {
        **node_summary(call),
        "node": name,
        "status": "online" if online else "offline",
        "type": "node",
        "id": f"node/{name}",
    }
    if online and call.allowed(f"/nodes/{name}", "Sys.Audit"):
        return entry
    return {key: entry[key] for key in ("node", "status", "type", "id", "ssl_fingerprint")}


@route("GET", "/nodes/{node}", public=False)
def node_index(_call: Call) -> object:
    """What is below a node."""
    return [
        {"name": name} for name in ("dns", "hosts", "lxc", "network", "qemu", "status", "storage", "tasks", "time", "version")
    ]


@route("GET", "/nodes/{node}/version")
def node_version(_call: Call) -> object:
    """The version that is emulated."""
    return {key: VERSION[key] for key in ("version", "release", "repoid")}


@route("GET", "/nodes/{node}/status", check=_AUDIT)
def node_status(_call: Call) -> object:
    """Load, memory and kernel of the node: invented, but steady."""
    used = 2 * 2**30
    return {
        "uptime": int(time.monotonic()),
        "cpu": 0.01,
        "wait": 0,
        "idle": 0,
        "loadavg": ["0.10", "0.08", "0.05"],
        "pveversion": f"pve-manager/{VERSION['version']}/{VERSION['repoid']}",
        "kversion": "Linux 6.14.11-1-pve",
        "current-kernel": {
            "sysname": "Linux",
            "release": "6.14.11-1-pve",
            "version": "#1 SMP PREEMPT_DYNAMIC",
            "machine": "x86_64",
        },
        "boot-info": {"mode": "efi", "secureboot": 0},
        "cpuinfo": {
            "cpus": NODE_CPUS,
            "cores": NODE_CPUS // 2,
            "sockets": 1,
            "model": "labctl sandbox",
            "mhz": "3000",
            "hvm": "1",
            "flags": "vmx",
            "user_hz": 100,
        },
        "memory": {"total": NODE_MEMORY, "used": used, "free": NODE_MEMORY - used, "available": NODE_MEMORY - used},
        "swap": {"total": 0, "used": 0, "free": 0},
        "rootfs": {"total": NODE_DISK, "used": 4 * 2**30, "free": NODE_DISK - 4 * 2**30, "avail": NODE_DISK - 4 * 2**30},
        "ksm": {"shared": 0},
    }


@route("GET", "/nodes/{node}/network", {"type": TEXT})
def networks(call: Call) -> object:
    """The node's bridge and its port."""
    bridge = {
        "iface": call.host.config.bridge,
        "type": "bridge",
        "active": 1,
        "autostart": 1,
        "method": "static",
        "method6": "manual",
        "address": call.host.config.address,
        "netmask": call.host.config.network.partition("/")[2],
        "cidr": f"{call.host.config.address}/{call.host.config.network.partition('/')[2]}",
        "bridge_ports": "eno1",
        "bridge_stp": "off",
        "bridge_fd": "0",
        "families": ["inet"],
        "priority": 4,
    }
    port = {
        "iface": "eno1",
        "type": "eth",
        "active": 1,
        "exists": 1,
        "method": "manual",
        "method6": "manual",
        "families": ["inet"],
        "priority": 3,
    }
    wanted = call.text("type")
    kinds = {"any_bridge": "bridge", "any_local_bridge": "bridge"}
    return [entry for entry in (bridge, port) if wanted in {"", "include_sdn"} or entry["type"] == kinds.get(wanted, wanted)]


@route("GET", "/nodes/{node}/network/{iface}", check=_AUDIT)
def network(call: Call) -> object:
    """One interface."""
    found = [entry for entry in _listed(networks(Call(call.host, call.caller, {}))) if entry["iface"] == call.text("iface")]
    if not found:
        raise ApiError(400, "interface does not exist", {"iface": "interface does not exist"})
    return {key: value for key, value in found[0].items() if key != "iface"}


def _listed(answer: object) -> list[dict[str, object]]:
    return answer if isinstance(answer, list) else []


@route("GET", "/nodes/{node}/hosts", check=_AUDIT)
def get_hosts(call: Call) -> object:
    """`/etc/hosts` of the node."""
    return {"data": call.host.state.hosts, "digest": digest(call.host.state.hosts)}


@route("POST", "/nodes/{node}/hosts", {"data": TEXT.must(), "digest": TEXT}, check=_MODIFY)
def set_hosts(call: Call) -> None:
    """Replace `/etc/hosts` of the node."""
    if call.text("digest") not in {"", digest(call.host.state.hosts)}:
        raise ApiError(500, "detected modified configuration - file changed by other user? Try again.")
    call.host.state.hosts = call.text("data")


@route("GET", "/nodes/{node}/dns", check=_AUDIT)
def get_dns(call: Call) -> object:
    """The node's resolver."""
    return call.host.state.dns


@route("PUT", "/nodes/{node}/dns", {"search": TEXT.must(), "dns1": ADDRESS, "dns2": ADDRESS, "dns3": ADDRESS}, check=_MODIFY)
def set_dns(call: Call) -> None:
    """Set the node's resolver."""
    call.host.state.dns = {key: call.text(key) for key in ("search", "dns1", "dns2", "dns3") if call.text(key)}


@route("GET", "/nodes/{node}/time", check=_AUDIT)
def get_time(call: Call) -> object:
    """The node's clock."""
    now = int(time.time())
    return {"time": now, "localtime": now, "timezone": call.host.state.timezone}


@route("PUT", "/nodes/{node}/time", {"timezone": TEXT.must()}, check=_MODIFY)
def set_time(call: Call) -> None:
    """Set the node's time zone."""
    call.host.state.timezone = call.text("timezone")


@route("GET", "/nodes/{node}/hardware/pci", {"pci-class-blacklist": TEXT, "verbose": BOOL}, check=_AUDIT)
def pci_devices(_call: Call) -> object:
    """The PCI devices that a GPU mapping can name."""
    return DEVICES


# ------------------------------------------------------------ tasks


@route(
    "GET",
    "/nodes/{node}/tasks",
    {
        "errors": BOOL,
        "limit": NATURAL,
        "since": NATURAL,
        "until": NATURAL,
        "source": Param(choices=("archive", "active", "all")),
        "start": NATURAL,
        "statusfilter": TEXT,
        "typefilter": TEXT,
        "userfilter": TEXT,
        "vmid": VMID,
    },
)
def list_tasks(call: Call) -> object:
    """Tasks, the newest first: everybody's for an auditor, else one's own."""
    audit = call.allowed(f"/nodes/{call.host.node}", "Sys.Audit")
    chosen = [
        task
        for task in call.host.state.tasks.values()
        if (audit or task.user == call.caller)
        and call.text("typefilter") in {"", task.type}
        and call.text("vmid") in {"", task.id}
        and not (call.flag("errors") and task.exitstatus == "OK")
        and task.starttime >= call.number("since")
    ]
    start = call.number("start")
    return [_listed_task(task) for task in chosen[::-1][start : start + call.number("limit", 50)]]


@route("GET", "/nodes/{node}/tasks/{upid}/status")
def task_status(call: Call) -> object:
    """Whether a task runs, and how it ended."""
    task = _own_task(call)
    answer = _listed_task(task)
    answer.pop("endtime", None)
    return compact({**answer, "status": task.status, "exitstatus": task.exitstatus if task.status == "stopped" else ""})


@route("GET", "/nodes/{node}/tasks/{upid}/log", {"start": NATURAL, "limit": NATURAL, "download": BOOL})
def task_log(call: Call) -> object:
    """What a task said."""
    lines = _own_task(call).log or ["no content"]
    start = call.number("start")
    chosen = lines[start : start + (call.number("limit", 50) or len(lines))]
    return [{"n": start + number, "t": line} for number, line in enumerate(chosen, 1)]


@route("DELETE", "/nodes/{node}/tasks/{upid}", check=_MODIFY)
def stop_task(call: Call) -> None:
    """Would stop a task; those of the sandbox end by themselves within seconds."""
    call.host.tasks.get(call.text("upid"))


def _own_task(call: Call) -> Task:
    task = call.host.tasks.get(call.text("upid"))
    if owner_of(task.user) != owner_of(call.caller):
        _AUDIT(call)
    return task


def _listed_task(task: Task) -> dict[str, object]:
    return compact(
        {
            "upid": task.upid,
            "node": task.node,
            "pid": task.pid,
            "pstart": task.pstart,
            "starttime": task.starttime,
            "endtime": task.endtime or None,
            "type": task.type,
            "id": task.id,
            "user": owner_of(task.user),
            "tokenid": task.user.partition("!")[2],
            "status": task.exitstatus,
        }
    )
