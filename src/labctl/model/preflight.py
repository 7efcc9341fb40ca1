"""What is looked at before a lab is built on a Proxmox VE: facts in, verdicts out.

`labctl doctor` prints every `Check`; a run stops at `refusal(checks(…))`. The facts come from `labctl.adapters.proxmox.gather`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from labctl.model.errors import UserError, nearest
from labctl.model.inventory import Datastore, GuestEntry, Node, Release, foreign_guests
from labctl.model.lab import Lab
from labctl.model.privileges import Permissions, Right, remedy, rights

Verdict = Literal["ok", "warn", "fail"]

OLDEST_MAJOR = 8
KNOWN_MAJOR = 9
SKEW_WARN_S = 10.0
SKEW_FAIL_S = 300.0
"""Above this, certificates that labctl has just signed are not valid yet in guests; above 900 s, S3 refuses signatures."""
IMAGE_ROOM_BYTES = 4 * 2**30
GIB = 2**30
THICK_KINDS = frozenset({"lvm", "iscsi", "iscsidirect"})
"""Datastore types that take a disk's whole size at once; on all others disks are thin."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What `gather` found on a hypervisor.

    Attributes:
        endpoint: The API's address.
        token_id: `user@realm!name` of the token.
        release: The version of Proxmox VE.
        permissions: What the token may do.
        nodes: The cluster's nodes that the token may see.
        datastores: Datastores of the lab's node that the token may see.
        bridges: Names of the node's bridges that the token may see.
        guests: The cluster's guests that the token may see.
        taken: Those of the lab's VMIDs that the cluster calls in use, seen or not.
        clock_skew_s: The node's clock minus this machine's, in seconds; None where it could not be read.
        firewall_enabled: Whether the datacenter's firewall is on; None where it could not be read.
    """

    endpoint: str
    token_id: str
    release: Release
    permissions: Permissions
    nodes: tuple[Node, ...] = ()
    datastores: tuple[Datastore, ...] = ()
    bridges: tuple[str, ...] = ()
    guests: tuple[GuestEntry, ...] = ()
    taken: frozenset[int] = frozenset()
    clock_skew_s: float | None = None
    firewall_enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict.

    Attributes:
        id: Stable name, as `datastore.local` or `right.VM.Allocate`.
        title: What was looked at.
        verdict: `ok`; `warn`: the lab works, but; `fail`: the lab cannot be built.
        detail: What was found, one sentence without its full stop.
        remedy: A command for a root shell of the node, or a setting; "" where nothing is to be done.
        to_change: Only who changes something needs it.
    """

    id: str
    title: str
    verdict: Verdict
    detail: str
    remedy: str = ""
    to_change: bool = False


def checks(facts: Facts, lab: Lab, state_vmids: Collection[int] = ()) -> tuple[Check, ...]:
    """All verdicts on building `lab` where `facts` were found.

    Args:
        facts: What was found.
        lab: The lab.
        state_vmids: VMIDs in the lab's own Terraform state; guests with these are not strangers.
    """
    return (
        _release(facts),
        _node(facts, lab),
        *(_right(right, facts, lab) for right in rights(facts.permissions, lab, facts.release)),
        *_datastores(facts, lab),
        _bridge(facts, lab),
        *_vmids(facts, lab, state_vmids),
        _clock(facts, lab),
        _firewall(facts),
        *_space(facts, lab, state_vmids),
    )


def refusal(verdicts: Collection[Check], *, reading: bool = False) -> UserError | None:
    """The error that stops a run, made of the first failed check (of all missing rights at once); None when nothing failed.

    Args:
        verdicts: What was found.
        reading: The run changes nothing.
    """
    failed = [check for check in verdicts if check.verdict == "fail" and not (reading and check.to_change)]
    if not failed:
        return None
    first = failed[0]
    if not first.id.startswith("right."):
        return UserError(first.detail, where=first.title, hint=_hint((first,)))
    lacking = [check for check in failed if check.id.startswith("right.")]
    named = "; ".join(check.title for check in lacking)
    return UserError(f"the API token has too few rights; missing: {named}", where="token", hint=_hint(lacking))


def _hint(failed: Collection[Check]) -> str:
    commands = "\n".join(f"  {remedy}" for remedy in dict.fromkeys(check.remedy for check in failed) if remedy)
    return f"On the node, as root, or in lab.yaml:\n{commands}\n`labctl doctor` checks again." if commands else ""


def _release(facts: Facts) -> Check:
    title, found = "Proxmox VE", f"version {facts.release.text}"
    if facts.release.major < OLDEST_MAJOR:
        return Check(
            "release",
            title,
            "fail",
            f"{found}; labctl needs {OLDEST_MAJOR} or later",
            "upgrade the node: `pve7to8 --full` tells how",
        )
    if facts.release.major != KNOWN_MAJOR:
        return Check("release", title, "warn", f"{found}; labctl's provider is made for {KNOWN_MAJOR}")
    return Check("release", title, "ok", found)


def _node(facts: Facts, lab: Lab) -> Check:
    title = f"node {lab.node}"
    for node in facts.nodes:
        if node.name == lab.node:
            if node.online:
                return Check("node", title, "ok", "online")
            return Check("node", title, "fail", "is offline", "start the node, or set target.proxmox.node to another one")
    known = nearest(lab.node, (node.name for node in facts.nodes))
    return Check("node", title, "fail", f"there is no node {lab.node!r}. {known}", "set target.proxmox.node in lab.yaml")


def _right(right: Right, facts: Facts, lab: Lab) -> Check:
    requirement = right.requirement
    where = right.paths[0] if len(right.paths) == 1 else right.grant_at
    identifier, title = f"right.{requirement.privilege}@{where}", f"{requirement.privilege} on {where}"
    if right.held:
        return Check(identifier, title, "ok", right.purpose)
    missing_on = "" if right.lacking == right.paths else f" on {', '.join(right.lacking)}"
    return Check(
        identifier,
        title,
        "warn" if requirement.advisory else "fail",
        f"the token does not have it{missing_on}; needed to {right.purpose}",
        remedy(right, lab, facts.release, facts.token_id),
        to_change=not requirement.reads,
    )


def _datastores(facts: Facts, lab: Lab) -> Iterator[Check]:
    stores = lab.datastores
    wanted: dict[str, dict[str, str]] = {}
    for name, content, setting in (
        (stores.snippets, "snippets", "snippets"),
        (stores.images, "import", "images"),
        (stores.disks, "images", "disks"),
    ):
        wanted.setdefault(name, {})[content] = setting
    seen = {store.name: store for store in facts.datastores}
    for name, contents in wanted.items():
        identifier, title = f"datastore.{name}", f"datastore {name}"
        settings = ", ".join(f"datastores.{setting}" for setting in contents.values())
        store = seen.get(name)
        if store is None:
            detail = f"is not on node {lab.node!r}, or the token may not see it. {nearest(name, seen)}"
            yield Check(identifier, title, "fail", detail, f"set target.proxmox.{settings} in lab.yaml")
        elif not store.active:
            yield Check(
                identifier,
                title,
                "fail",
                "is disabled or not active",
                f"pvesm set {name} --disable 0; pvesm status --storage {name}",
            )
        elif lacking := sorted(set(contents) - store.content):
            allowed = ",".join(sorted(store.content | set(contents)))
            detail = f"does not allow content {', '.join(lacking)}; it allows {', '.join(sorted(store.content)) or 'nothing'}"
            yield Check(identifier, title, "fail", detail, f"pvesm set {name} --content {allowed}")
        else:
            yield Check(identifier, title, "ok", f"{store.kind}, allows {', '.join(sorted(contents))}")


def _bridge(facts: Facts, lab: Lab) -> Check:
    bridge = lab.network.bridge
    title = f"bridge {bridge}"
    if bridge in facts.bridges:
        return Check("bridge", title, "ok", f"is on node {lab.node!r}")
    detail = f"is not on node {lab.node!r}, or the token may not see it. {nearest(bridge, facts.bridges)}"
    return Check("bridge", title, "fail", detail, "set network.bridge in lab.yaml")


def _vmids(facts: Facts, lab: Lab, state_vmids: Collection[int]) -> Iterator[Check]:
    planned = {guest.settings.vmid: guest.name for guest in lab.guests()}
    foreign = {one.vmid: one for one in foreign_guests(planned, facts.guests, state_vmids, facts.taken)}
    tags = {guest.vmid: set(guest.tags) for guest in facts.guests}
    for vmid, name in planned.items():
        identifier, title = f"vmid.{vmid}", f"VMID {vmid} for {name}"
        if vmid in state_vmids:
            yield Check(identifier, title, "ok", "is the lab's own")
        elif vmid not in foreign:
            yield Check(identifier, title, "ok", "is free")
        elif {"labctl", lab.name} <= tags.get(vmid, set()):
            detail = f"{foreign[vmid]}; it carries this lab's tags, but the lab's state does not know it"
            yield Check(identifier, title, "fail", detail, f"bring the lab's state back, or remove the guest: qm destroy {vmid}")
        else:
            yield Check(identifier, title, "fail", str(foreign[vmid]), "give the guest another vmid in lab.yaml")


def _clock(facts: Facts, lab: Lab) -> Check:
    title, skew = f"clock of node {lab.node}", facts.clock_skew_s
    if skew is None:
        return Check("clock", title, "warn", "could not be read")
    detail = f"is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) <= SKEW_WARN_S:
        return Check("clock", title, "ok", "agrees with this machine's")
    verdict: Verdict = "fail" if abs(skew) > SKEW_FAIL_S else "warn"
    return Check("clock", title, verdict, detail, "systemctl restart chrony; chronyc tracking (on the node and here)")


def _firewall(facts: Facts) -> Check:
    title = "datacenter firewall"
    if facts.firewall_enabled:
        return Check("firewall", title, "ok", "is on")
    if facts.firewall_enabled is None:
        return Check("firewall", title, "warn", "could not be read")
    return Check(
        "firewall",
        title,
        "warn",
        "is off, so the guests' firewall rules are written but not enforced",
        "pvesh set /cluster/firewall/options --enable 1 (first make sure that your own network may reach ports 22 and 8006)",
    )


def _space(facts: Facts, lab: Lab, state_vmids: Collection[int]) -> Iterator[Check]:
    seen = {store.name: store for store in facts.datastores}
    if disks := seen.get(lab.datastores.disks):
        new = [guest for guest in lab.guests() if guest.settings.vmid not in state_vmids]
        yield _disk_space(disks, sum(guest.settings.disk_gib for guest in new), thick=disks.kind in THICK_KINDS)
    images = seen.get(lab.datastores.images)
    if images and images.total_bytes and images.free_bytes < IMAGE_ROOM_BYTES:
        detail = f"{images.free_bytes / GIB:.1f} GiB free; the cloud image wants about {IMAGE_ROOM_BYTES // GIB} GiB"
        yield Check(f"space.images.{images.name}", f"space on {images.name}", "warn", detail, f"pvesm list {images.name}")


def _disk_space(store: Datastore, wanted_gib: int, *, thick: bool) -> Check:
    identifier, title = f"space.disks.{store.name}", f"space on {store.name}"
    if not store.total_bytes:
        return Check(identifier, title, "warn", "the node does not say how much is free")
    free_gib = store.free_bytes / GIB
    if wanted_gib <= free_gib:
        return Check(identifier, title, "ok", f"{free_gib:.0f} GiB free, new disks take up to {wanted_gib} GiB")
    detail = f"{free_gib:.0f} GiB free, new disks may grow to {wanted_gib} GiB"
    remedy_text = "lower disk_gib in lab.yaml, or set target.proxmox.datastores.disks"
    return Check(
        identifier,
        title,
        "fail" if thick else "warn",
        detail if not thick else detail.replace("may grow to", "take"),
        remedy_text,
    )
