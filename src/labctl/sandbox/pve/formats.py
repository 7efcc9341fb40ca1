"""PVE's little languages: property strings, sizes, lists, MAC addresses."""

from __future__ import annotations

import hashlib
import json
import re
import secrets

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
_UNITS = {"T": TIB, "G": GIB, "M": MIB, "K": KIB}

DRIVE = re.compile(r"(?:ide|sata|scsi|virtio|efidisk|tpmstate|unused)\d+")
MOUNT = re.compile(r"rootfs|mp\d+")
NETWORK = re.compile(r"net\d+")
MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
NIC_MODELS = ("virtio", "e1000", "e1000e", "vmxnet3", "rtl8139")


def split_list(text: object) -> list[str]:
    """The items of a list that PVE lets people write with commas, semicolons or spaces."""
    return [item for item in re.split(r"[,; ]+", str(text or "")) if item]


def parse_properties(text: object, default_key: str = "") -> dict[str, str]:
    """A property string (`a,key=value,…`) as a dict, its bare first value under `default_key`."""
    found: dict[str, str] = {}
    for part in str(text or "").split(","):
        key, equals, value = part.partition("=")
        if equals:
            found[key] = value
        elif part and default_key:
            found[default_key] = part
    return found


def format_properties(first: str, properties: dict[str, str]) -> str:
    """A property string with `first` at its head and the rest sorted, as PVE prints drives and devices."""
    return ",".join([first] * bool(first) + [f"{key}={properties[key]}" for key in sorted(properties)])


def parse_size(text: object) -> int:
    """Bytes of a size such as `200G`; a bare number is bytes.

    Raises:
        ValueError: It is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])?", str(text))
    if not match:
        raise ValueError(f"not a size: {text}")
    return int(float(match[1]) * _UNITS.get(match[2], 1))


def format_size(size: int) -> str:
    """A size in bytes with the largest unit that divides it."""
    for unit, factor in _UNITS.items():
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def new_mac() -> str:
    """A random MAC address under Proxmox's own prefix."""
    return "BC:24:11:" + ":".join(f"{byte:02X}" for byte in secrets.token_bytes(3))


def mac_of(network_device: object) -> str:
    """The MAC address inside a `netN` value, "" where there is none."""
    found = MAC.search(str(network_device or ""))
    return found[0] if found else ""


def digest(value: object) -> str:
    """The checksum under which PVE lets a client notice a change by somebody else."""
    return hashlib.sha1(json.dumps(value, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def truthy(value: object) -> bool:
    """PVE's booleans: 1, on, yes, true."""
    return str(value).lower() in {"1", "on", "yes", "true"}


def compact(value: dict[str, object]) -> dict[str, object]:
    """The dict without its empty strings: PVE leaves an unset property out."""
    return {key: item for key, item in value.items() if item != "" and item is not None}
