from __future__ import annotations

from collections.abc import Callable

import pytest

from labctl.model.inventory import Datastore, GuestEntry, Node, Release
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.preflight import Facts
from labctl.model.privileges import Permissions, requirements

GIB = 2**30
OPERATOR = "age1" + "q" * 58
GPU = """
    gpu: {vga_path: "0000:01:00.0", vga_id: "10de:2204", vga_subsystem_id: "10de:147d", vga_iommu_group: 14,
          audio_path: "0000:01:00.1", audio_id: "10de:1aef", audio_subsystem_id: "10de:147d", audio_iommu_group: 14}
"""


@pytest.fixture
def make_lab() -> Callable[..., Lab]:
    def make(*, gpu: bool = False, datastores: str = "{}", node: str = "pve") -> Lab:
        return parse_lab(
            f"""
name: datalab
target: {{proxmox: {{endpoint: "https://192.0.2.10:8006", node: {node}, datastores: {datastores}}}}}
operators: [{OPERATOR}]
platform:
  docker:
    disk_gib: 400
{GPU if gpu else ""}"""
        )

    return make


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()


def enough(lab: Lab, release: Release) -> Permissions:
    """Exactly the required rights, granted where the requirement says."""
    stores = lab.datastores
    names = {
        "node": lab.node, "pool": lab.name, "bridge": lab.network.bridge,
        "snippets": stores.snippets, "images": stores.images, "disks": stores.disks,
    }  # fmt: skip
    entries: dict[str, dict[str, bool]] = {}
    for one in requirements(lab, release):
        entries.setdefault(one.grant_at.format(**names), {})[one.privilege] = True
    return Permissions(entries)


@pytest.fixture
def make_facts() -> Callable[..., Facts]:
    def make(lab: Lab, **changes: object) -> Facts:
        release = changes.pop("release", Release("9.0.10"))
        assert isinstance(release, Release)
        known: dict[str, object] = {
            "endpoint": "https://192.0.2.10:8006",
            "token_id": "labctl@pve!labctl",
            "release": release,
            "permissions": enough(lab, release),
            "nodes": (Node("pve", True), Node("pve2", False)),
            "datastores": (
                Datastore("local", "dir", frozenset({"iso", "snippets", "import"}), 100 * GIB, 50 * GIB, True),
                Datastore("local-lvm", "lvmthin", frozenset({"images", "rootdir"}), 2000 * GIB, 1900 * GIB, True),
            ),
            "bridges": ("vmbr0", "vmbr1"),
            "guests": (GuestEntry(900, "nas", "pve", "qemu", "running"),),
            "clock_skew_s": 0.4,
            "firewall_enabled": True,
        }
        return Facts(**(known | changes))  # type: ignore[arg-type]

    return make
