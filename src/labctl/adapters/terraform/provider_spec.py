"""Which providers labctl can put into the mirror, pinned to what they are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider at one version.

    Attributes:
        namespace: "bpg".
        type: "proxmox".
        version: Without "v".
        module: Its Go module, to build it from.
        module_sum: The module's `h1:` sum as `go.sum` files name it. It pins the source and, by the `go.sum` inside, all that the
            source depends on.
        go: The oldest Go that builds it (its `go.mod`).
    """

    namespace: str
    type: str
    version: str
    module: str
    module_sum: str
    go: tuple[int, int]

    @property
    def name(self) -> str:
        """NAMESPACE/TYPE."""
        return f"{self.namespace}/{self.type}"

    @property
    def binary_name(self) -> str:
        """The file name that Terraform looks for."""
        return f"terraform-provider-{self.type}_v{self.version}"

    @property
    def go_text(self) -> str:
        """The oldest Go, as people write it."""
        return f"{self.go[0]}.{self.go[1]}"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


BPG_PROXMOX = ProviderSpec(
    namespace="bpg",
    type="proxmox",
    version="0.111.1",
    module="github.com/bpg/terraform-provider-proxmox",
    module_sum="h1:sRMDj3SaHKN2gbhKdteacF17jXmOiK5lfDMFj23nfBU=",
    go=(1, 26),
)
