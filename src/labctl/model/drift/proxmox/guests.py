"""Guests: each one that is seen, and each one that is declared, comes to exactly one place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labctl.model.drift.finding import Finding, Kind, Severity
from labctl.model.drift.proxmox.world import Declared, DeclaredGuest, Inventory, Part, Unmanaged, change, found, some
from labctl.model.inventory import GuestEntry

MOST_ASKED = 50
"""VMIDs that are looked up one by one: a token with few rights is not shown every guest."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where each guest belongs: a seen one is in one of the first three, a declared one in one of the others.

    Attributes:
        matched: Declared and seen.
        strangers: Seen, of the lab's concern, and declared by nobody.
        foreign: Seen, and somebody else's.
        missing: In a state, and no longer there.
        hidden: In use, as the cluster says, but not shown.
        unknown: Not to be judged: its node is off, or no state could be read.
        planned: Wanted by lab.yaml and never made.
    """

    matched: tuple[tuple[DeclaredGuest, GuestEntry], ...] = ()
    strangers: tuple[GuestEntry, ...] = ()
    foreign: tuple[GuestEntry, ...] = ()
    missing: tuple[DeclaredGuest, ...] = ()
    hidden: tuple[DeclaredGuest, ...] = ()
    unknown: tuple[DeclaredGuest, ...] = ()
    planned: tuple[DeclaredGuest, ...] = ()


def place(seen: Inventory, declared: Declared) -> Placed:
    """Every guest in its place. Where guests could not be listed at all, every declared one is unknown."""
    wanted = {guest.vmid: guest for guest in declared.guests}
    names = {guest.name for guest in declared.guests}
    listed = seen.guests or ()
    matched, strangers, foreign = [], [], []
    for guest in listed:
        mine = wanted.get(guest.vmid)
        if mine and _is(guest, mine, declared.lab):
            matched.append((mine, guest))
        elif mine or _concerns(guest, declared.lab, names):
            strangers.append(guest)
        else:
            foreign.append(guest)
    there, vmids = {mine.vmid for mine, _ in matched}, {guest.vmid for guest in listed}
    rest: dict[str, list[DeclaredGuest]] = {name: [] for name in ("missing", "hidden", "unknown", "planned")}
    for mine in declared.guests:
        if mine.vmid not in there:
            rest[_whereabouts(mine, seen, vmids)].append(mine)
    return Placed(tuple(matched), tuple(strangers), tuple(foreign), **{name: tuple(found) for name, found in rest.items()})


def _is(guest: GuestEntry, mine: DeclaredGuest, lab: str) -> bool:
    """Whether what has a declared VMID is the lab's. A state proves it; without one it must look like it."""
    if guest.kind != mine.kind or mine.origin.made is False:
        return False
    return bool(mine.origin.made) or guest.name == mine.name or guest.pool == lab or {"labctl", lab} <= set(guest.tags)


def _concerns(guest: GuestEntry, lab: str, names: set[str]) -> bool:
    if guest.pool == lab or {"labctl", lab} <= set(guest.tags):
        return True
    # Every lab calls its guests alike, so the name alone tells nothing about what another lab has made.
    return guest.name in names and "labctl" not in guest.tags


def _whereabouts(mine: DeclaredGuest, seen: Inventory, listed: set[int]) -> str:
    if mine.vmid in seen.taken and mine.vmid not in listed:
        return "hidden"
    if mine.origin.made is False:
        return "planned"
    # What could not be looked up may be hidden: only a VMID that is free is a guest that is gone.
    if mine.vmid not in seen.asked | listed or mine.origin.made is None or mine.node in seen.offline:
        return "unknown"
    return "missing"


def to_ask(seen: Inventory, declared: Declared) -> tuple[int, ...]:
    """VMIDs under which no guest is listed, and which therefore are to be looked up: declared ones, and those of disks."""
    listed = {guest.vmid for guest in seen.guests or ()}
    mine = {guest.vmid for guest in declared.guests} - listed
    disks = {volume.vmid for volumes in seen.volumes.values() for volume in volumes if volume.vmid} - listed - mine
    return (*sorted(mine), *sorted(disks)[:MOST_ASKED])


def compare_guests(seen: Inventory, declared: Declared, placed: Placed, unmanaged: Unmanaged) -> Part:
    """Guests against the states and lab.yaml."""
    findings = [one for mine, guest in placed.matched for one in _compared(mine, guest, seen)]
    wanted = {mine.vmid: mine for mine in declared.guests}
    findings += [_stranger(guest, wanted.get(guest.vmid), declared.lab) for guest in placed.strangers]
    findings += [_missing(mine) for mine in placed.missing]
    findings += [_hidden(mine) for mine in placed.hidden]
    if unmanaged == "all":
        findings += [_unmanaged(guest, Severity.LOW, "and it is no lab's that this one knows") for guest in placed.foreign]
    if seen.guests is not None and not seen.may("/vms", "VM.Audit"):
        text = "the token lacks VM.Audit on /vms: guests that it may not see could be there, and disks of theirs"
        findings.append(found(Kind.HIDDEN, "hidden/vms", text, Severity.LOW))
    return Part(
        tuple(findings),
        tuple(_unknown(placed, seen)),
        tuple(_notes(placed, seen, unmanaged)),
        len(seen.guests or ()) + sum(len(group) for group in (placed.missing, placed.hidden, placed.unknown, placed.planned)),
    )


def _compared(mine: DeclaredGuest, guest: GuestEntry, seen: Inventory) -> Iterator[Finding]:
    """The attributes as Terraform calls them, a finding each."""

    def one(path: str, before: Any, after: Any, text: str, severity: Severity, kind: Kind = Kind.CHANGED) -> Finding:
        what = f"guest {mine.name} ({mine.vmid}) {text}"
        origin = mine.origin
        changes = change(path, before, after)
        return found(kind, origin.address, what, severity, origin=origin, guest=mine.name, node=guest.node, changes=changes)

    if guest.node != mine.node:
        text = f"is on node {guest.node}, not on {mine.node}: moved outside"
        yield one("node_name", mine.node, guest.node, text, Severity.MEDIUM, Kind.MOVED)
    if guest.pool != mine.pool:
        where = f"is in pool {guest.pool}" if guest.pool else "is in no pool"
        yield one("pool_id", mine.pool, guest.pool, f"{where}, not in {mine.pool or 'none'}", Severity.MEDIUM)
    if guest.node in seen.offline or guest.status == "unknown":
        # What else is listed of it is only what the cluster still remembers.
        return
    if guest.name != mine.name:
        yield one("name", mine.name, guest.name, f"is called {guest.name or '(nothing)'}", Severity.LOW)
    if (guest.status == "running") != mine.started:
        yield one("started", mine.started, guest.status == "running", f"is {guest.status}", Severity.MEDIUM)
    if guest.template != mine.template:
        text = "was made a template, which cannot start" if guest.template else "is no template any more"
        yield one("template", mine.template, guest.template, text, Severity.MEDIUM)


def _unmanaged(guest: GuestEntry, severity: Severity, why: str) -> Finding:
    text = f"{_called(guest)} on node {guest.node} was declared by nobody, {why}"
    return found(Kind.UNMANAGED, f"{guest.kind}/{guest.vmid}", text, severity, guest=guest.name, node=guest.node)


def _stranger(guest: GuestEntry, mine: DeclaredGuest | None, lab: str) -> Finding:
    """The finding for a guest of the lab's concern; `mine` is who should have its VMID."""
    if mine is not None:
        return _unmanaged(guest, Severity.HIGH, f"and has the VMID of the lab's guest {mine.name}")
    if guest.pool == lab:
        return _unmanaged(guest, Severity.MEDIUM, f"and is in the lab's pool {guest.pool}")
    if {"labctl", lab} <= set(guest.tags):
        return _unmanaged(guest, Severity.MEDIUM, f"and has the lab's tags labctl and {lab}")
    return _unmanaged(guest, Severity.MEDIUM, "and has the name of a guest of the lab")


def _called(guest: GuestEntry) -> str:
    what = "container" if guest.kind == "lxc" else "VM"
    return f"{what} {guest.vmid} ({guest.name})" if guest.name else f"{what} {guest.vmid}"


def _missing(mine: DeclaredGuest) -> Finding:
    origin, text = (
        mine.origin,
        f"guest {mine.name} ({mine.vmid}) is in the state, but gone from node {mine.node}: deleted outside",
    )
    return found(Kind.MISSING, origin.address, text, Severity.HIGH, origin=origin, guest=mine.name, node=mine.node)


def _hidden(mine: DeclaredGuest) -> Finding:
    text = f"VMID {mine.vmid} of guest {mine.name} is in use, but not shown: the token lacks VM.Audit on /vms/{mine.vmid}"
    origin = mine.origin
    return found(Kind.HIDDEN, origin.address, text, Severity.MEDIUM, origin=origin, guest=mine.name, node=mine.node)


def _unknown(placed: Placed, seen: Inventory) -> Iterator[str]:
    """What cannot be judged, a sentence a cause."""
    on_node: dict[str, list[str]] = {}
    for mine, guest in placed.matched:
        if guest.node in seen.offline:
            on_node.setdefault(guest.node, []).append(mine.name)
        elif guest.status == "unknown":
            yield f"guest {mine.name} ({mine.vmid}): node {guest.node} does not say how it is. `systemctl status pvestatd` there."
    for mine in placed.unknown:
        if mine.origin.made and mine.node in seen.offline:
            on_node.setdefault(mine.node, []).append(mine.name)
    for node, names in sorted(on_node.items()):
        yield f"node {node} is offline: nothing is known of {some(sorted(names))}. Bring it back, see `pvecm status`."
    unread = sorted(mine.name for mine in placed.unknown if mine.origin.made is None and seen.guests is not None)
    if unread:
        yield (
            f"whether {some(unread)} was deleted or never made is unknown: no state could be read. "
            "Make the states readable (`labctl status` says why they are not)."
        )


def _notes(placed: Placed, seen: Inventory, unmanaged: Unmanaged) -> Iterator[str]:
    if placed.foreign and unmanaged == "lab":
        count = len(placed.foreign)
        verb = "guest is" if count == 1 else "guests are"
        yield f"{count} {verb} somebody else's, outside of the lab's pool: {some([_brief(guest) for guest in placed.foreign])}"
    for mine, guest in placed.matched:
        if guest.lock:
            yield f"guest {mine.name} ({mine.vmid}) is locked ({guest.lock}); with no task at work: `qm unlock {mine.vmid}`"
    concerned = {guest.node for _, guest in placed.matched} | {mine.node for mine in placed.unknown}
    for node in sorted(seen.offline - concerned):
        yield f"node {node} is offline; no guest of the lab is on it"


def _brief(guest: GuestEntry) -> str:
    return f"{guest.kind}/{guest.vmid} {guest.name}".rstrip()
