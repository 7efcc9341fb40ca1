"""A GPU by PCI mappings: names for devices of a node, which a guest refers to instead of an address."""

from __future__ import annotations

from constructs import Construct

from labctl.model.lab import Gpu
from stacks.cdk import TerraformResourceLifecycle
from stacks.constructs.resource import Resource


class PciMapping(Resource):
    """One PCI device of the node under a name. Made before the old one goes, because a guest may still refer to that."""

    def __init__(
        self, scope: Construct, name: str, *, mapping: str, node: str, path: str, device: str, subsystem: str, iommu_group: int
    ) -> None:
        super().__init__(
            scope,
            "proxmox_hardware_mapping_pci",
            name,
            {
                "name": mapping,
                "comment": "made by labctl",
                "map": [{"id": device, "subsystem_id": subsystem, "node": node, "path": path, "iommu_group": iommu_group}],
                "mediated_devices": False,
            },
            lifecycle=TerraformResourceLifecycle(create_before_destroy=True),
        )

    @property
    def mapping(self) -> str:
        """The mapping's name, as a reference."""
        return self.get_string_attribute("name")


def gpu_mappings(scope: Construct, lab: str, node: str, gpu: Gpu) -> tuple[PciMapping, PciMapping]:
    """The two functions of a graphics card, picture and sound; both lie in one IOMMU group as a rule and go together."""
    return (
        PciMapping(
            scope,
            "gpu_vga",
            mapping=f"{lab}-gpu-vga",
            node=node,
            path=gpu.vga_path,
            device=gpu.vga_id,
            subsystem=gpu.vga_subsystem_id,
            iommu_group=gpu.vga_iommu_group,
        ),
        PciMapping(
            scope,
            "gpu_audio",
            mapping=f"{lab}-gpu-audio",
            node=node,
            path=gpu.audio_path,
            device=gpu.audio_id,
            subsystem=gpu.audio_subsystem_id,
            iommu_group=gpu.audio_iommu_group,
        ),
    )
