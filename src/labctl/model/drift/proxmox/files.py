"""Disks, snippets and images on the lab's datastores, its PCI mappings and its pool."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labctl.model.drift.finding import Finding, Kind, Severity
from labctl.model.drift.proxmox.guests import Placed
from labctl.model.drift.proxmox.settings import volume_of
from labctl.model.drift.proxmox.world import Declared, DeclaredThing, Inventory, Part, found, some
from labctl.model.inventory import Volume

DISKS = frozenset({"images", "rootdir"})
SNAPSHOT_STATE = re.compile(r":(?:.*/)?vm-\d+-state-")
MAPPING_RIGHTS = ("Mapping.Audit", "Mapping.Use", "Mapping.Modify")


def may_list(seen: Inventory, datastore: str, content: str) -> str:
    """What the token lacks to be shown all of a content type, "" for nothing.

    Rules of pve-storage's `check_volume_access`, by which a listing leaves out in silence what the token may not read.
    """
    path = f"/storage/{datastore}"
    if seen.may(path, "Datastore.Allocate"):
        return ""
    if content == "snippets":
        return f"Datastore.Allocate on {path}"
    if content == "import":
        return "" if seen.may(path, "Datastore.Audit", "Datastore.AllocateSpace") else f"Datastore.Audit on {path}"
    if seen.may(path, "Datastore.Audit") and seen.may("/vms", "VM.Config.Disk"):
        return ""
    return f"Datastore.Allocate on {path}"


def compare_files(seen: Inventory, declared: Declared, placed: Placed) -> Part:
    """All that lies on the lab's datastores."""
    stores = declared.datastores
    wanted = ((stores.snippets, "snippets"), (stores.images, "import"), (stores.disks, "images"))
    findings: list[Finding] = []
    problems: tuple[str, ...] = ()
    for datastore, content in wanted:
        if datastore not in seen.volumes:
            continue
        lacking = may_list(seen, datastore, content)
        if lacking:
            text = f"the token is not shown all {content} of datastore {datastore}: it lacks {lacking}"
            findings.append(found(Kind.HIDDEN, f"hidden/storage/{datastore}/{content}", text, Severity.LOW))
        if content != "images":
            findings += _files(seen, declared, datastore, content, complete=not lacking)
        else:
            orphans, problems = _orphans(seen, declared, placed, datastore)
            findings += orphans
    return Part(tuple(findings), problems, looked=sum(len(volumes) for volumes in seen.volumes.values()) + len(declared.files))


def _files(seen: Inventory, declared: Declared, datastore: str, content: str, *, complete: bool) -> Iterator[Finding]:
    head = f"{datastore}:{content}/"
    there = {volume.volid for volume in seen.volumes[datastore] if volume.content == content}
    mine = {file.name: file for file in declared.files if file.name.startswith(head)}
    for name, file in sorted(mine.items()):
        if file.origin.made and name not in there and complete:
            yield _file_missing(file, content)
    for name in sorted(there - {name for name, file in mine.items() if file.origin.made is not False}):
        if _is_labs(name.removeprefix(head), declared, seen):
            text = f"{name} has the lab's name, but no stack has made it"
            yield found(Kind.UNMANAGED, f"volume/{name}", text, Severity.LOW, node=declared.node)


def _is_labs(file: str, declared: Declared, seen: Inventory) -> bool:
    """Whether a file is this lab's by its name, and not that of a lab whose name only begins alike."""
    longer = [pool for pool in seen.pools or () if pool != declared.lab and pool.startswith(f"{declared.lab}-")]
    return file.startswith(f"{declared.lab}-") and not any(file.startswith(f"{pool}-") for pool in longer)


def _file_missing(file: DeclaredThing, content: str) -> Finding:
    if content == "snippets":
        text = f"snippet {file.name} of guest {file.guest} is gone: the guest cannot start again" if file.guest else ""
        text, severity = text or f"snippet {file.name} is gone", Severity.HIGH
    else:
        text, severity = f"image {file.name} is gone: no guest can be made from it", Severity.MEDIUM
    return found(Kind.MISSING, file.origin.address, text, severity, origin=file.origin, guest=file.guest)


def _orphans(seen: Inventory, declared: Declared, placed: Placed, datastore: str) -> tuple[list[Finding], tuple[str, ...]]:
    """Disks whose guest is gone, and disks of the lab's guests that these do not name."""
    if seen.guests is None:
        return [], ()
    listed = {guest.vmid for guest in seen.guests} | seen.taken
    names = {guest.vmid: guest for guest in declared.guests}
    used = {mine.vmid: _used(seen, mine.vmid) for mine, _ in placed.matched}
    findings, unasked = [], []
    for volume in seen.volumes[datastore]:
        if volume.content not in DISKS or not volume.vmid:
            continue
        mine = names.get(volume.vmid)
        if volume.vmid not in listed:
            if volume.vmid not in seen.asked:
                unasked.append(volume.volid)
                continue
            severity = Severity.MEDIUM if mine else Severity.LOW
            text = f"disk {volume.volid} belongs to guest {volume.vmid}, which is not there"
        elif _is_left_over(volume, used.get(volume.vmid)):
            severity, text = (
                Severity.MEDIUM,
                f"disk {volume.volid} belongs to guest {volume.vmid}, whose configuration does not name it",
            )
        else:
            continue
        origin = mine.origin if mine else None
        findings.append(
            found(Kind.UNMANAGED, f"volume/{volume.volid}", text, severity, origin=origin, guest=mine.name if mine else "")
        )
    return findings, _unasked(unasked)


def _unasked(volumes: list[str]) -> tuple[str, ...]:
    if not volumes:
        return ()
    count = len(volumes)
    text = f"{count} disks have guests that are not listed, too many to ask for each whether it exists: {some(volumes, 3)}"
    return (f"{text}. Give the token VM.Audit on /vms, or remove the disks of guests that are gone.",)


def _used(seen: Inventory, vmid: int) -> frozenset[str] | None:
    """The volumes that a guest's configuration names; None where that is not all: unread, or with snapshots of their own."""
    options = seen.options.get(vmid)
    if options is None or any(option.name == "parent" for option in options):
        return None
    return frozenset(volume_of(option) for option in options)


def _is_left_over(volume: Volume, used: frozenset[str] | None) -> bool:
    return used is not None and volume.volid not in used and not SNAPSHOT_STATE.search(volume.volid)


def compare_mappings(seen: Inventory, declared: Declared) -> Part:
    """PCI mappings of the lab, and what the node has to say against them."""
    if seen.mappings is None:
        return Part()
    there = {mapping.name: mapping for mapping in seen.mappings}
    findings = []
    for mine in declared.mappings:
        origin = mine.origin
        if mine.name in there:
            if troubles := there[mine.name].troubles:
                text = f"PCI mapping {mine.name} does not fit the node: {troubles}"
                findings.append(
                    found(Kind.CHANGED, f"mapping/{mine.name}/device", text, origin=origin, guest=mine.guest, node=declared.node)
                )
        elif origin.made and not seen.may(f"/mapping/pci/{mine.name}", *MAPPING_RIGHTS):
            text = f"the token may not see PCI mapping {mine.name}: it lacks Mapping.Audit on /mapping/pci"
            findings.append(found(Kind.HIDDEN, origin.address, text, Severity.LOW, origin=origin))
        elif origin.made:
            text = f"PCI mapping {mine.name} is gone: guest {mine.guest} cannot start again"
            findings.append(found(Kind.MISSING, origin.address, text, Severity.MEDIUM, origin=origin, guest=mine.guest))
    known = {mine.name for mine in declared.mappings if mine.origin.made is not False}
    for name in sorted(there):
        if name not in known and name.startswith(f"{declared.lab}-gpu-"):
            text = f"PCI mapping {name} has the lab's name, but no stack has made it"
            findings.append(found(Kind.UNMANAGED, f"mapping/{name}", text, Severity.LOW))
    return Part(tuple(findings), looked=len(there) + len(declared.mappings))


def compare_pools(seen: Inventory, declared: Declared) -> Part:
    """The lab's pool."""
    findings = []
    for mine in declared.pools:
        if seen.pools is None or mine.name in seen.pools or not mine.origin.made:
            continue
        if not seen.may(f"/pool/{mine.name}", "Pool.Audit", "Pool.Allocate"):
            text = f"the token may not see pool {mine.name}: it lacks Pool.Audit on /pool/{mine.name}"
            findings.append(found(Kind.HIDDEN, mine.origin.address, text, Severity.LOW, origin=mine.origin))
        else:
            text = f"pool {mine.name} is gone"
            findings.append(found(Kind.MISSING, mine.origin.address, text, Severity.MEDIUM, origin=mine.origin))
    return Part(tuple(findings), looked=len(declared.pools))
