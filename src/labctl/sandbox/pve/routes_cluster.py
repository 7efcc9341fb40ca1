"""`/version`, `/cluster` and `/pools`."""

from __future__ import annotations

import re
import time

from labctl.sandbox.pve import pci
from labctl.sandbox.pve.errors import ApiError, invalid
from labctl.sandbox.pve.formats import compact, digest
from labctl.sandbox.pve.routing import Call, perm, route
from labctl.sandbox.pve.schema import BOOL, STORAGE_ID, TEXT, VMID, Param
from labctl.sandbox.pve.state import Guest

VERSION = {"version": "9.0.10", "release": "9.0", "repoid": "deb1ca707ec72a89", "console": "html5"}
NODE_CPUS, NODE_MEMORY, NODE_DISK = 32, 128 * 2**30, 100 * 2**30
_MAPPING_ID = Param(form=("configuration ID", lambda value: bool(re.fullmatch(r"(?i)[a-z][a-z0-9_-]+", value))), required=True)
_MAPPING = {"description": TEXT, "map": Param(many=True), "mdev": BOOL, "live-migration-capable": BOOL}
_POOL_ID = Param(pattern=r"[A-Za-z0-9.\-_]+(/[A-Za-z0-9.\-_]+){0,2}", required=True)


@route("GET", "/version")
def version(_call: Call) -> object:
    """The version that is emulated."""
    return VERSION


@route("GET", "/cluster/nextid", {"vmid": VMID})
def next_id(call: Call) -> object:
    """The first free id, or the given one if it is free."""
    taken = call.host.state.guests
    if "vmid" in call.args:
        if call.text("vmid") in taken:
            raise invalid(vmid=f"VM {call.text('vmid')} already exists")
        return call.text("vmid")
    return str(next(number for number in range(100, 10**6) if str(number) not in taken))


@route("GET", "/cluster/status", check=perm("/", "Sys.Audit"))
def cluster_status(call: Call) -> object:
    """The cluster's nodes."""
    host = call.host
    return [
        {
            "type": "node",
            "id": f"node/{name}",
            "name": name,
            "online": int(host.online(name)),
            "local": int(name == host.node),
            "nodeid": number,
            "ip": host.config.address,
            "level": "",
        }
        for number, name in enumerate((host.node, *host.state.nodes))
    ]


@route("GET", "/cluster/options")
def cluster_options(call: Call) -> object:
    """Options of the datacenter: the defaults."""
    return {"keyboard": "en-us"} if call.allowed("/", "Sys.Audit") else {}


@route("GET", "/cluster/resources", {"type": Param(choices=("vm", "storage", "node", "sdn"))})
def resources(call: Call) -> object:
    """Guests, storages and the node, as far as the caller may see them."""
    host, wanted, found = call.host, call.text("type"), []
    if wanted in {"", "node"} and call.allowed(f"/nodes/{host.node}", "Sys.Audit"):
        node = node_summary(call)
        node.pop("ssl_fingerprint")
        found.append({**node, "type": "node", "id": f"node/{host.node}", "cgroup-mode": 2})
    if wanted in {"", "vm"}:
        found += [_guest_resource(call, guest) for guest in host.state.guests.values() if visible(call, guest)]
    if wanted in {"", "storage"}:
        found += [
            {
                "id": f"storage/{host.node}/{name}",
                "type": "storage",
                "storage": name,
                "node": host.node,
                "content": storage.content,
                "plugintype": storage.type,
                "status": "available",
                "shared": 0,
                "disk": 0,
                "maxdisk": storage.total,
            }
            for name, storage in host.state.storages.items()
            if call.allowed(f"/storage/{name}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)
        ]
    if wanted in {"", "sdn"} and call.allowed("/sdn/zones/localnetwork", "SDN.Audit"):
        found.append(
            {"id": f"sdn/{host.node}/localnetwork", "type": "sdn", "sdn": "localnetwork", "node": host.node, "status": "ok"},
        )
    return found


def visible(call: Call, guest: Guest) -> bool:
    """Whether a guest appears in the caller's listings."""
    return call.allowed(f"/vms/{guest.vmid}", "VM.Audit")


def node_summary(call: Call) -> dict[str, object]:
    """The node in a listing."""
    running = [guest for guest in call.host.state.guests.values() if guest.running]
    return {
        "node": call.host.node,
        "status": "online",
        "level": "",
        "ssl_fingerprint": call.host.fingerprint,
        "maxcpu": NODE_CPUS,
        "cpu": 0.01 * (1 + len(running)),
        "maxmem": NODE_MEMORY,
        "mem": 2 * 2**30,
        "maxdisk": NODE_DISK,
        "disk": 4 * 2**30,
        "uptime": int(time.monotonic()),
    }


def _guest_resource(call: Call, guest: Guest) -> dict[str, object]:
    entry, node = call.host.status(guest, time.time()), call.host.node_of(guest)
    entry.pop("pid", None)
    cpus = entry.pop("cpus")
    if not call.host.online(node):
        # Of a guest on a node that is off the cluster has its configuration's place, lock and tags only.
        kept: dict[str, object] = {name: value for name, value in entry.items() if name in {"vmid", "lock", "tags"}}
        place = {"id": f"{guest.kind}/{guest.vmid}", "type": guest.kind, "node": node, "status": "unknown"}
        return {**kept, **place, **({"pool": guest.pool} if guest.pool else {})}
    pool = {"pool": guest.pool} if guest.pool else {}
    return {
        **entry,
        "maxcpu": cpus,
        "id": f"{guest.kind}/{guest.vmid}",
        "type": guest.kind,
        "node": node,
        "template": 1 if guest.config.get("template") else 0,
        **pool,
    }


# ------------------------------------------------------------ hardware mappings


@route("GET", "/cluster/mapping/{kind}", {"check-node": TEXT})
def list_mappings(call: Call) -> object:
    """The mappings of a kind, as far as the caller may see them."""
    kind = _mapping_kind(call)
    return [
        {
            **_shown_mapping(name, mapping),
            **({"checks": _checks(mapping, name, call.text("check-node"))} if "check-node" in call.args else {}),
        }
        for name, mapping in call.host.state.mappings[kind].items()
        if call.allowed(f"/mapping/{kind}/{name}", "Mapping.Audit", "Mapping.Use", "Mapping.Modify", any_of=True)
    ]


@route(
    "POST",
    "/cluster/mapping/{kind}",
    {"id": _MAPPING_ID, **_MAPPING, "map": Param(many=True).must()},
    check=perm("/mapping/{kind}", "Mapping.Modify"),
)
def add_mapping(call: Call) -> None:
    """Make a mapping."""
    mappings, name = call.host.state.mappings[_mapping_kind(call)], call.text("id")
    if name in mappings:
        raise ApiError(500, f"mapping ID '{name}' already defined")
    mappings[name] = {key: _mapping_value(call, key) for key in _MAPPING if key in call.args}


@route(
    "GET",
    "/cluster/mapping/{kind}/{id}",
    check=perm("/mapping/{kind}/{id}", "Mapping.Audit", "Mapping.Use", "Mapping.Modify", any_of=True),
)
def get_mapping(call: Call) -> object:
    """One mapping."""
    return _shown_mapping(call.text("id"), _existing_mapping(call))


@route(
    "PUT",
    "/cluster/mapping/{kind}/{id}",
    {**_MAPPING, "delete": TEXT, "digest": TEXT},
    check=perm("/mapping/{kind}/{id}", "Mapping.Modify"),
)
def edit_mapping(call: Call) -> None:
    """Change a mapping."""
    mapping = _existing_mapping(call)
    for key in call.items("delete"):
        mapping.pop(key, None)
    mapping.update({key: _mapping_value(call, key) for key in _MAPPING if key in call.args})


@route("DELETE", "/cluster/mapping/{kind}/{id}", check=perm("/mapping/{kind}/{id}", "Mapping.Modify"))
def remove_mapping(call: Call) -> None:
    """Remove a mapping."""
    call.host.state.mappings[_mapping_kind(call)].pop(call.text("id"), None)


def _mapping_kind(call: Call) -> str:
    kind = call.text("kind")
    if kind not in call.host.state.mappings:
        raise ApiError(501, f"Method 'GET /cluster/mapping/{kind}' not implemented")
    return kind


def _existing_mapping(call: Call) -> dict[str, object]:
    mappings, name = call.host.state.mappings[_mapping_kind(call)], call.text("id")
    if name not in mappings:
        raise ApiError(500, f"mapping '{name}' not found")
    return mappings[name]


def _mapping_value(call: Call, key: str) -> object:
    if key == "map":
        value = call.args["map"]
        return value if isinstance(value, list) else [value]
    return int(call.flag(key)) if key in {"mdev", "live-migration-capable"} else call.text(key)


def _checks(mapping: dict[str, object], name: str, node: str) -> list[dict[str, str]]:
    entries = mapping.get("map")
    return pci.checks(name, entries if isinstance(entries, list) else [entries], node)


def _shown_mapping(name: str, mapping: dict[str, object]) -> dict[str, object]:
    return {"id": name, **mapping, "digest": digest(mapping)}


# ------------------------------------------------------------ pools


@route("GET", "/pools", {"poolid": TEXT, "type": Param(choices=("qemu", "lxc", "storage"))})
def list_pools(call: Call) -> object:
    """The pools that the caller may see; one pool with its members where its id is given."""
    pools, wanted = call.host.state.pools, call.text("poolid")
    if not wanted:
        return [
            compact({"poolid": name, "comment": text})
            for name, text in pools.items()
            if call.allowed(f"/pool/{name}", "Pool.Audit")
        ]
    call.require(f"/pool/{wanted}", "Pool.Audit")
    return [{**_pool(call, wanted), "poolid": wanted}]


@route(
    "GET", "/pools/{poolid:rest}", {"type": Param(choices=("qemu", "lxc", "storage"))}, check=perm("/pool/{poolid}", "Pool.Audit")
)
def get_pool(call: Call) -> object:
    """One pool with its members."""
    return _pool(call, call.text("poolid"))


@route("POST", "/pools", {"poolid": _POOL_ID, "comment": TEXT}, check=perm("/pool/{poolid}", "Pool.Allocate"))
def add_pool(call: Call) -> None:
    """Make a pool."""
    name = call.text("poolid")
    if name in call.host.state.pools:
        raise ApiError(500, f"create pool failed: pool '{name}' already exists")
    call.host.state.pools[name] = call.text("comment")


_MEMBERS = {"comment": TEXT, "vms": TEXT, "storage": STORAGE_ID, "delete": BOOL, "allow-move": BOOL}


@route("PUT", "/pools", {"poolid": _POOL_ID, **_MEMBERS}, check=perm("/pool/{poolid}", "Pool.Allocate"))
@route("PUT", "/pools/{poolid:rest}", _MEMBERS, check=perm("/pool/{poolid}", "Pool.Allocate"))
def edit_pool(call: Call) -> None:
    """Change a pool's comment or members."""
    name = _existing_pool(call, call.text("poolid"))
    if "comment" in call.args:
        call.host.state.pools[name] = call.text("comment")
    for vmid in call.items("vms"):
        call.require(f"/vms/{vmid}", "VM.Allocate")
        guest = call.host.state.guests.get(vmid)
        if guest is None:
            raise ApiError(500, f"update pools failed: VM {vmid} does not exist")
        if call.flag("delete"):
            if guest.pool != name:
                raise ApiError(500, f"update pools failed: VM {vmid} is not a pool member")
            guest.pool = ""
        elif guest.pool and guest.pool != name and not call.flag("allow-move"):
            raise ApiError(500, f"update pools failed: VM {vmid} belongs already to pool '{guest.pool}'")
        else:
            guest.pool = name


@route("DELETE", "/pools", {"poolid": _POOL_ID}, check=perm("/pool/{poolid}", "Pool.Allocate"))
@route("DELETE", "/pools/{poolid:rest}", check=perm("/pool/{poolid}", "Pool.Allocate"))
def remove_pool(call: Call) -> None:
    """Remove an empty pool."""
    name = _existing_pool(call, call.text("poolid"))
    if any(guest.pool == name for guest in call.host.state.guests.values()):
        raise ApiError(500, f"delete pool failed: pool '{name}' is not empty")
    del call.host.state.pools[name]


def _existing_pool(call: Call, name: str) -> str:
    if name not in call.host.state.pools:
        raise ApiError(500, f"pool '{name}' does not exist")
    return name


def _pool(call: Call, name: str) -> dict[str, object]:
    _existing_pool(call, name)
    wanted = call.text("type")
    members = [
        _guest_resource(call, guest)
        for guest in call.host.state.guests.values()
        if guest.pool == name and wanted in {"", guest.kind} and visible(call, guest)
    ]
    return compact({"comment": call.host.state.pools[name], "members": members})
