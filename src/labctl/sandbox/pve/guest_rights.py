"""Who may create and change guests (PVE::API2::Qemu, check_vm_modify_config_perm and its neighbours)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labctl.sandbox.pve.errors import ApiError
from labctl.sandbox.pve.formats import DRIVE, parse_properties, split_list
from labctl.sandbox.pve.hardware_schema import QEMU_PRIVILEGES
from labctl.sandbox.pve.privileges import ROOT
from labctl.sandbox.pve.routing import Call
from labctl.sandbox.pve.schema import Param, lookup


def check_create(call: Call) -> None:
    """Who may create a guest: `VM.Allocate` on it or on its pool.

    Raises:
        ApiError: 403.
    """
    path, pool = f"/vms/{call.text('vmid')}", call.text("pool")
    if call.allowed(path, "VM.Allocate") or (pool and call.allowed(f"/pool/{pool}", "VM.Allocate")):
        return
    call.require(path, "VM.Allocate")


def check_options(call: Call, options: Iterable[str], values: Mapping[str, str], *, pool: str = "") -> None:
    """Who may set these options of a guest.

    Args:
        call: The request.
        options: Names of the options that are set or deleted.
        values: Their values, where they are set.
        pool: For a guest that is being made: its pool, whose rights count too.

    Raises:
        ApiError: 403 for a missing privilege, 500 for what only root may set.
    """
    vmid = call.text("vmid")
    for option in options:
        needed = _needed(option, values.get(option, ""))
        if not needed:
            if call.caller != ROOT:
                raise ApiError(500, f"only root can set '{option}' config")
            continue
        if pool and call.allowed(f"/pool/{pool}", *needed, any_of=True):
            continue
        call.require(f"/vms/{vmid}", *needed, any_of=True)
    for option, value in values.items():
        _check_uses(call, option, value)


def _needed(option: str, value: str) -> tuple[str, ...]:
    if DRIVE.fullmatch(option) and "media=cdrom" in value:
        return ("VM.Config.CDROM",)
    names = lookup({name: Param() for name in QEMU_PRIVILEGES}, option)
    if names is None:
        return ()
    return QEMU_PRIVILEGES.get(option) or QEMU_PRIVILEGES[f"{option.rstrip('0123456789')}[n]"]


def _check_uses(call: Call, option: str, value: str) -> None:
    """What a value refers to must be the caller's to use: storages, bridges, mapped devices."""
    stem = option.rstrip("0123456789")
    if stem == "net":
        bridge = parse_properties(value).get("bridge")
        if bridge:
            call.require(f"/sdn/zones/localnetwork/{bridge}", "SDN.Use")
    elif stem in {"hostpci", "usb"}:
        mapping = parse_properties(value, "host").get("mapping")
        if mapping:
            call.require(f"/mapping/{'pci' if stem == 'hostpci' else 'usb'}/{mapping}", "Mapping.Use")
        elif call.caller != ROOT:
            raise ApiError(500, f"only root can set '{option}' config for non-mapped devices")
    elif stem == "serial" and value != "socket" and call.caller != ROOT:
        raise ApiError(500, f"only root can set '{option}' config for real devices")
    elif option == "cicustom":
        for volid in parse_properties(value).values():
            call.require(f"/storage/{volid.partition(':')[0]}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
    elif DRIVE.fullmatch(option) or stem in {"rootfs", "mp"}:
        _check_drive(call, value)


def _check_drive(call: Call, value: str) -> None:
    properties = parse_properties(value, "file")
    source = properties.get("import-from", "")
    storage, colon, volume = properties.get("file", "").partition(":")
    if source:
        call.require(f"/storage/{source.partition(':')[0]}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
    if colon and not volume.startswith("vm-"):
        privilege = ("Datastore.AllocateSpace",) if "/" not in volume else ("Datastore.AllocateSpace", "Datastore.Audit")
        call.require(f"/storage/{storage}", *privilege, any_of=True)


def changed_options(options: Mapping[str, str]) -> list[str]:
    """The names of options that a request sets or deletes."""
    return [name for name in options if name != "delete"] + split_list(options.get("delete", ""))
