"""What a cut-off run made on the hypervisor without having it written into its state.

Terraform writes a resource down when the hypervisor has answered. Killed in between, it leaves a guest that no state knows: the
next plan would create it again, and the provider would take it over in silence, half made. Such a resource is entered into the
state as Terraform itself would have done it, with the values that were planned; the next plan then completes it.

Only what is certainly the lab's own qualifies: a run of this lab that did not end well was creating exactly this address, and
what is found there has the name, the tags and the place that the run would have given it.
"""

from __future__ import annotations

import copy
import uuid
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.model.inventory import FirewallRule, GuestEntry, Pool

VM = "proxmox_virtual_environment_vm"
POOL = "proxmox_virtual_environment_pool"
RULES = "proxmox_virtual_environment_firewall_rules"
IMAGE = "proxmox_download_file"
KINDS = (VM, POOL, RULES, IMAGE)
"""The types whose creation fails, or adopts, where the thing is already there. Snippets and firewall options are overwritten."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What runs that did not end well were doing to a stack.

    Attributes:
        runs: Their ids, the oldest first.
        creates: Addresses that they were creating.
    """

    runs: tuple[str, ...] = ()
    creates: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """What the hypervisor has, as far as it matters here.

    Attributes:
        guests: Its guests.
        pools: Its pools.
        images: Volume ids of images, `datastore:import/file`.
        rules: Firewall rules of guests by VMID.
    """

    guests: tuple[GuestEntry, ...] = ()
    pools: tuple[Pool, ...] = ()
    images: frozenset[str] = frozenset()
    rules: Mapping[int, tuple[FirewallRule, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Leftover:
    """A resource that is there, and that the state is to learn of.

    Attributes:
        address: Its address in the stack.
        id: Its id, as the provider gives it.
        resource: The resource as planned (`planned_values` of `terraform show -json`).
    """

    address: str
    id: str
    resource: Mapping[str, Any]


def unfinished(events: Iterable[tuple[str, Iterable[Mapping[str, Any]]]], stack: str) -> Unfinished:
    """What the runs since the stack's last good end were creating.

    Args:
        events: Run id and journal of each run, the newest first.
        stack: The stack's name.
    """
    runs: list[str] = []
    creates: set[str] = set()
    for run_id, journal in events:
        began, ended = _last_apply(journal, stack)
        if ended:
            break
        if began is not None:
            runs.append(run_id)
            creates |= began
    return Unfinished(tuple(reversed(runs)), frozenset(creates))


def in_doubt(journal: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The stacks whose apply began in this run and came to no good end in it."""
    events = tuple(journal)
    stacks = {str(event.get("stack")) for event in events if event.get("stage") == "applying"}
    return frozenset(stack for stack in stacks if not _last_apply(events, stack)[1])


def known_destroyed(events: Iterable[tuple[str, Iterable[Mapping[str, Any]]]], stack: str) -> bool:
    """Whether the last thing that any run did to the stack was to destroy it, to its good end.

    Args:
        events: Run id and journal of each run, the newest first.
        stack: The stack's name.
    """
    for _run_id, journal in events:
        stages = [event.get("stage") for event in journal if event.get("type") == "stack" and event.get("stack") == stack]
        if "applying" in stages:
            last = len(stages) - 1 - stages[::-1].index("applying")
            return "destroyed" in stages[last:]
    return False


def _last_apply(journal: Iterable[Mapping[str, Any]], stack: str) -> tuple[frozenset[str] | None, bool]:
    """The addresses that the run's apply was creating, None without an apply; and whether the stack came to a good end."""
    began: frozenset[str] | None = None
    ended = False
    for event in journal:
        if event.get("type") != "stack" or event.get("stack") != stack:
            continue
        if event.get("stage") == "applying":
            began, ended = frozenset(event.get("creates", ())), False
        elif event.get("stage") in ("applied", "up to date", "destroyed"):
            ended = True
    return began, ended


def candidates(plan: Mapping[str, Any], creates: Collection[str]) -> tuple[Mapping[str, Any], ...]:
    """The planned resources that the plan creates, that an unfinished run was creating too, and that can be left over.

    Args:
        plan: What `terraform show -json PLANFILE` printed.
        creates: The addresses of `Unfinished`.
    """
    wanted = {
        change["address"]
        for change in plan.get("resource_changes", ())
        if change["change"]["actions"] == ["create"] and change["address"] in creates and change["type"] in KINDS
    }
    resources = plan.get("planned_values", {}).get("root_module", {}).get("resources", ())
    return tuple(resource for resource in resources if resource["address"] in wanted)


def leftovers(resources: Iterable[Mapping[str, Any]], found: Found) -> tuple[Leftover, ...]:
    """Those of the resources that are there, certainly the lab's own."""
    known: list[Leftover] = []
    for resource in resources:
        identifier = _IDENTIFY[resource["type"]](resource["values"], found)
        if identifier:
            known.append(Leftover(resource["address"], identifier, resource))
    return tuple(known)


def _vm(values: Mapping[str, Any], found: Found) -> str:
    for guest in found.guests:
        same = (guest.vmid, guest.name, guest.node, guest.kind) == (
            values.get("vm_id"),
            values["name"],
            values["node_name"],
            "qemu",
        )
        # A pool that is made in the same plan has its name there already; a guest joins its pool in the call that makes it.
        if same and set(guest.tags) == set(values["tags"]) and guest.pool == values.get("pool_id") and not guest.template:
            return str(guest.vmid)
    return ""


def _pool(values: Mapping[str, Any], found: Found) -> str:
    same = (pool.name for pool in found.pools if (pool.name, pool.comment) == (values["pool_id"], values["comment"]))
    return next(same, "")


def _image(values: Mapping[str, Any], found: Found) -> str:
    volid = f"{values['datastore_id']}:{values['content_type']}/{values['file_name']}"
    return volid if volid in found.images else ""


def _rules(values: Mapping[str, Any], found: Found) -> str:
    there = (found.rules or {}).get(int(values["vm_id"]), ())
    planned = {
        FirewallRule(r["type"], r["action"], str(r.get("dport") or ""), str(r.get("comment") or "")) for r in values["rule"]
    }
    if not there or not set(there) <= planned:
        return ""
    # `GetRulesID` of the provider: a checksum of the path that it reads.
    path = f"nodes/{values['node_name']}/qemu/{values['vm_id']}/firewall/rules"
    return f"rule-{zlib.crc32(path.encode())}"


_IDENTIFY = {VM: _vm, POOL: _pool, RULES: _rules, IMAGE: _image}


def entered(state: Mapping[str, Any], found: Iterable[Leftover], terraform_version: str) -> dict[str, Any]:
    """The state (version 4) with the leftovers in it; a new one where `state` is empty.

    Args:
        state: What `terraform state pull` printed.
        found: What to enter. An address that the state has is left as it is.
        terraform_version: Of the engine, for a new state.
    """
    document: dict[str, Any] = copy.deepcopy(dict(state)) or {
        "version": 4,
        "terraform_version": terraform_version,
        "serial": 0,
        "lineage": str(uuid.uuid4()),
        "outputs": {},
        "resources": [],
    }
    resources = document.setdefault("resources", [])
    has = {f"{r['type']}.{r['name']}" for r in resources if r["mode"] == "managed" and r.get("instances")}
    for one in found:
        if one.address in has:
            continue
        resource = one.resource
        resources[:] = [
            r for r in resources if (r["mode"], r["type"], r["name"]) != ("managed", resource["type"], resource["name"])
        ]
        resources.append(
            {
                "mode": "managed",
                "type": resource["type"],
                "name": resource["name"],
                "provider": f'provider["{resource["provider_name"]}"]',
                "instances": [
                    {
                        "schema_version": resource["schema_version"],
                        "attributes": {**resource["values"], "id": one.id},
                        "sensitive_attributes": [],
                    }
                ],
            }
        )
    document["serial"] = int(document["serial"]) + 1
    return document
