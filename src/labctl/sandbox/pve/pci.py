"""The PCI devices that the emulated node has: an invented graphics card with its audio function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.sandbox.pve.formats import parse_properties

_COMMON = {"iommugroup": 14, "vendor": "0x10de", "vendor_name": "NVIDIA Corporation", "subsystem_vendor": "0x10de"}
DEVICES: tuple[dict[str, object], ...] = (
    {
        **_COMMON,
        "id": "0000:01:00.0",
        "class": "0x030000",
        "device": "0x2204",
        "device_name": "GA102",
        "subsystem_device": "0x147d",
    },
    {
        **_COMMON,
        "id": "0000:01:00.1",
        "class": "0x040300",
        "device": "0x1aef",
        "device_name": "GA102 Audio",
        "subsystem_device": "0x147d",
    },
)


def checks(name: str, entries: Iterable[object], node: str) -> list[dict[str, str]]:
    """What a node has to say against a mapping (PVE::API2::Cluster::Mapping::PCI and PVE::Mapping::PCI).

    Args:
        name: The mapping.
        entries: Its property strings, each for a node.
        node: The node that is asked.
    """
    mine = [entry for text in entries if (entry := parse_properties(text)).get("node") == node]
    if not mine:
        return [{"severity": "warning", "message": f"No mapping for node {node}."}]
    troubles = (trouble for entry in mine for trouble in _troubles(name, entry))
    return [{"severity": "error", "message": f"Invalid configuration: {trouble}\n"} for trouble in troubles]


def _troubles(name: str, entry: dict[str, str]) -> Iterator[str]:
    path = entry.get("path", "")
    whole = path if "." in path else f"{path}.0"
    device = next((device for device in DEVICES if device["id"] == whole), None)
    if device is None:
        yield f"pci device '{path}' not found"
        return
    there = {
        "id": f"{device['vendor']}:{device['device']}".replace("0x", ""),
        "subsystem-id": f"{device['subsystem_vendor']}:{device['subsystem_device']}".replace("0x", ""),
        "iommugroup": str(device["iommugroup"]),
    }
    for key, value in there.items():
        if key in entry and entry[key] != value:
            yield f"'{key}' does not match for '{name}' ({value} != {entry[key]})"
            return
