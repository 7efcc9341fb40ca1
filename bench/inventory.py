"""Workload (g): an inventory of 5,000 guests and 20,000 volumes, as the API answers it, held against a state of as many."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from bench.samples import Samples
from labctl.adapters.proxmox import _parse
from labctl.model.drift.proxmox import Declared, Inventory, Written, compare, declared_by
from labctl.model.inventory import Option
from labctl.model.labfile import parse_lab

GUESTS, DISKS_EACH = 5_000, 4
NOW = datetime(2027, 3, 1, tzinfo=UTC)
LAB = parse_lab("name: bench\ntarget: {sandbox: {}}\n")
ADDRESS = "proxmox_virtual_environment_vm"


def _answers() -> tuple[str, str]:
    """What `/cluster/resources` and the content of the disks' datastore look like."""
    guests, volumes = [], []
    for number in range(GUESTS):
        vmid = 1000 + number
        guest = {"type": "qemu", "vmid": vmid, "name": f"g{number}", "node": f"pve{number % 8}", "status": "running"}
        guests.append({**guest, "pool": "bench", "tags": "bench;labctl", "maxmem": 2**31, "uptime": number, "id": f"qemu/{vmid}"})
        for disk in range(DISKS_EACH):
            volid = f"local-lvm:vm-{vmid}-disk-{disk}"
            volumes.append({"volid": volid, "content": "images", "format": "raw", "size": 2**33, "vmid": vmid, "ctime": 1})
    return json.dumps(guests), json.dumps(volumes)


def _state() -> str:
    rows = [
        {
            "mode": "managed",
            "type": ADDRESS,
            "name": f"g{number}",
            "instances": [
                {
                    "attributes": {
                        "vm_id": 1000 + number,
                        "name": f"g{number}",
                        "node_name": f"pve{number % 8}",
                        "pool_id": "bench",
                        "started": True,
                    }
                }
            ],
        }
        for number in range(GUESTS)
    ]
    return json.dumps({"version": 4, "resources": rows})


def _read(guests: str, volumes: str) -> Inventory:
    """All that is shown; the three disks that a guest names, and one that it does not."""
    options = {
        1000 + number: tuple(Option(f"virtio{disk}", f"local-lvm:vm-{1000 + number}-disk-{disk},size=8G") for disk in range(3))
        for number in range(GUESTS)
    }
    listed = _parse.guests(json.loads(guests))
    return Inventory(guests=listed, volumes={"local-lvm": _parse.volumes(json.loads(volumes))}, options=options)


def _declared(state: str) -> Declared:
    return declared_by(LAB, (Written("foundation", "foundation", json.loads(state)),), "labctl@pve!bench")


def _read_and_join(guests: str, volumes: str, state: str) -> None:
    compare(_read(guests, volumes), _declared(state), NOW)


def measure_inventory(runs: int) -> Samples:
    """Measures reading and joining, and the joins that find most."""
    samples = Samples()
    (guests, volumes), state = _answers(), _state()
    for _ in range(runs):
        samples.time("read and join", partial(_read_and_join, guests, volumes, state))
        seen, declared = _read(guests, volumes), _declared(state)
        samples.time("join", partial(compare, seen, declared, NOW))
        nobodys = replace(
            declared, guests=tuple(replace(guest, origin=replace(guest.origin, made=False)) for guest in declared.guests)
        )
        samples.time("join, all strangers", partial(compare, seen, nobodys, NOW, "all"))
        gone = replace(seen, guests=(), asked=frozenset(range(1000, 1000 + GUESTS)))
        samples.time("join, all missing", partial(compare, gone, declared, NOW))
    return samples
