"""The configuration of guests: which options there are, who may set them, and what PVE makes of a value that it stores."""

from __future__ import annotations

import re
import secrets
import time
import urllib.parse
import uuid
from collections.abc import Mapping

from labctl.sandbox.pve.errors import ApiError, invalid
from labctl.sandbox.pve.formats import (
    DRIVE,
    GIB,
    MIB,
    MOUNT,
    NETWORK,
    NIC_MODELS,
    format_properties,
    format_size,
    mac_of,
    new_mac,
    parse_properties,
    parse_size,
    split_list,
)
from labctl.sandbox.pve.hardware_schema import INTEGER_OPTIONS, PROPERTIES
from labctl.sandbox.pve.host import Host
from labctl.sandbox.pve.schema import UNKNOWN, Param
from labctl.sandbox.pve.state import Guest

_ALLOCATE = re.compile(r"([A-Za-z][\w.-]*):(\d+(?:\.\d+)?)")
_FIXED_SIZE = {"efidisk": 4 * MIB, "tpmstate": 4 * MIB}
_TAG = re.compile(r"(?i)[a-z0-9_][a-z0-9_\-+.]*")
MASKED = "**********"


def verify_properties(options: Mapping[str, str]) -> None:
    """Check the parts of property strings.

    Raises:
        ApiError: 400, with PVE's wording.
    """
    problems = {option: problem for option, value in options.items() if (problem := _property_problem(option, value))}
    if any(not _TAG.fullmatch(tag) for tag in split_list(options.get("tags", ""))):
        problems["tags"] = "invalid format - invalid characters in tag\n"
    if problem := _memory_problem(options.get("memory", "512")):
        problems["memory"] = f"invalid format - format error\nmemory.current: {problem}\n"
    if problems:
        raise invalid(**problems)


def _property_problem(option: str, value: str) -> str:
    allowed = PROPERTIES.get(option.rstrip("0123456789"))
    for part in parse_properties(value, "_") if allowed is not None else ():
        if allowed is not None and part not in allowed and part != "_":
            return f"invalid format - format error\n{option}.{part}: {UNKNOWN}\n"
    return ""


def _memory_problem(value: str) -> str:
    current = parse_properties(value, "current").get("current", "")
    return Param("integer", minimum=16).problem(current)


def configure(host: Host, guest: Guest, options: Mapping[str, str]) -> None:
    """Set and delete options of a guest, disks made and removed as they ask.

    Raises:
        ApiError: A storage, volume or option is not there or does not fit.
    """
    for option in split_list(options.get("delete", "")):
        _unset(host, guest, option)
    for option, value in options.items():
        if option != "delete":
            guest.config[option] = _stored(host, guest, option, value)
    guest.name = str(guest.config.get("name" if guest.kind == "qemu" else "hostname", guest.name))


def identify(guest: Guest) -> None:
    """Give a new VM what PVE gives it: its identity and a note of when it was made."""
    if guest.kind == "qemu":
        guest.config.setdefault("smbios1", f"uuid={uuid.uuid4()}")
        guest.config.setdefault("vmgenid", str(uuid.uuid4()))
        guest.config["meta"] = f"creation-qemu=10.0.2,ctime={int(time.time())}"
    else:
        guest.config.setdefault("arch", "amd64")


def _unset(host: Host, guest: Guest, option: str) -> None:
    value = guest.config.pop(option, None)
    if value is None or not (DRIVE.fullmatch(option) or MOUNT.fullmatch(option)):
        return
    volid = str(value).split(",")[0]
    if option.startswith("unused") or volid.endswith("-cloudinit"):
        host.datastores.remove(volid)
    elif volid in host.state.volumes:
        _keep_unused(guest, volid)


def _keep_unused(guest: Guest, volid: str) -> None:
    """A disk that is taken off stays as `unusedN`, as on PVE: its content is not lost by an edit."""
    number = next(n for n in range(256) if f"unused{n}" not in guest.config)
    guest.config[f"unused{number}"] = volid


def _stored(host: Host, guest: Guest, option: str, value: str) -> str | int:
    if DRIVE.fullmatch(option) and guest.kind == "qemu":
        return _drive(host, guest, option, value)
    if MOUNT.fullmatch(option) and guest.kind == "lxc":
        return _mount(host, guest, value)
    if NETWORK.fullmatch(option):
        return _network(guest, option, value)
    if option == "tags":
        return ";".join(sorted({tag.lower() for tag in split_list(value)}))
    if option == "cipassword":
        # PVE keeps a hash too; the emulator never needs the password, so it keeps nothing that could be guessed from.
        return f"$sandbox${secrets.token_hex(8)}"
    if option == "sshkeys":
        _check_ssh_keys(value)
    if option == "description" and guest.kind == "lxc":
        return value if value.endswith("\n") else f"{value}\n"
    return int(value) if option in INTEGER_OPTIONS and re.fullmatch(r"-?\d+", value) else value


def _check_ssh_keys(value: str) -> None:
    if not re.match(r"(ssh-|ecdsa-|sk-|#|\s*$)", urllib.parse.unquote(value)):
        raise invalid(sshkeys="invalid format - SSH public key validation error\n")


def _drive(host: Host, guest: Guest, option: str, value: str) -> str:
    properties = parse_properties(value, "file")
    file = properties.pop("file", "")
    properties.pop("size", None)
    source = properties.pop("import-from", "")
    old = str(guest.config.get(option, "")).split(",")[0]
    if file in {"none", "cdrom"}:
        return format_properties(file, {**properties, "media": "cdrom"})
    if file.endswith(":cloudinit"):
        name = f"vm-{guest.vmid}-cloudinit"
        volid = host.datastores.allocate(file.partition(":")[0], guest.vmid, 4 * MIB, volume=name)
        properties, size = {"media": "cdrom"}, 4 * MIB
    elif match := _ALLOCATE.fullmatch(file):
        fixed = _FIXED_SIZE.get(option.rstrip("0123456789"))
        size = host.datastores.image_size(source) if source else fixed or int(float(match[2]) * GIB)
        volid = host.datastores.allocate(match[1], guest.vmid, size)
        properties.pop("format", None)
    else:
        volid, size = file, host.datastores.volume(file).size
    if old and old != volid and old in host.state.volumes and not old.endswith("-cloudinit"):
        _keep_unused(guest, old)
    return format_properties(volid, {**properties, "size": format_size(size)})


def _mount(host: Host, guest: Guest, value: str) -> str:
    properties = parse_properties(value, "volume")
    volume = properties.pop("volume", "")
    if match := _ALLOCATE.fullmatch(volume):
        size = int(float(match[2]) * GIB)
        volume = host.datastores.allocate(match[1], guest.vmid, size, content="rootdir")
        properties["size"] = format_size(size)
    return format_properties(volume, properties)


def _network(guest: Guest, option: str, value: str) -> str:
    properties = parse_properties(value, "model")
    mac = mac_of(value) or mac_of(guest.config.get(option)) or new_mac()
    if guest.kind == "lxc":
        return format_properties("", {"type": "veth", **properties, "hwaddr": mac.upper()})
    model = properties.pop("model", "") or next((name for name in NIC_MODELS if name in properties), "virtio")
    rest = {key: item for key, item in properties.items() if key not in {*NIC_MODELS, "macaddr"}}
    return format_properties(f"{model}={mac.upper()}", rest)


def shown(guest: Guest) -> dict[str, object]:
    """A guest's config as the API shows it: passwords masked, memory as a string (as PVE 8 and later do)."""
    config: dict[str, object] = dict(guest.config)
    if "cipassword" in config:
        config["cipassword"] = MASKED
    if guest.kind == "qemu" and "memory" in config:
        config["memory"] = str(config["memory"])
    if guest.lock:
        config["lock"] = guest.lock
    return config


def resize(host: Host, guest: Guest, disk: str, size: str) -> None:
    """Grow a disk.

    Raises:
        ApiError: It is not there, or would shrink.
    """
    if disk not in guest.config:
        raise ApiError(500, f"disk '{disk}' does not exist")
    properties = parse_properties(guest.config[disk], "file")
    volid = properties.pop("file")
    volume = host.state.volumes.get(volid)
    if volume is None:
        raise ApiError(500, f"volume '{volid}' does not exist")
    wanted = volume.size + parse_size(size[1:]) if size.startswith("+") else parse_size(size)
    if wanted < volume.size:
        raise ApiError(500, "shrinking disks is not supported")
    volume.size = wanted
    guest.config[disk] = format_properties(volid, {**properties, "size": format_size(wanted)})


def bridges(guest: Guest) -> list[str]:
    """The bridges that a guest's network devices need."""
    devices = [value for key, value in guest.config.items() if NETWORK.fullmatch(key)]
    return [name for device in devices if (name := parse_properties(device).get("bridge", ""))]
