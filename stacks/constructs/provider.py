"""The provider `bpg/proxmox`. Version and source stand here only; credentials stand nowhere in a stack.

The provider takes them from its environment: `PROXMOX_VE_API_TOKEN`, and `PROXMOX_VE_SSH_PRIVATE_KEY` or
`PROXMOX_VE_SSH_PASSWORD`. The SSH user is a setting of the lab; left out, the provider would take the token's user.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from constructs import Construct

from labctl.model.lab import Lab
from stacks.cdk import TerraformProvider, TerraformProviderGeneratorMetadata

PROXMOX_SOURCE = "bpg/proxmox"
PROXMOX_VERSION = "0.111.1"


class ProxmoxProvider(TerraformProvider):
    """The hypervisor that the lab runs on; SSH goes to its one node, for snippets only."""

    def __init__(self, scope: Construct, lab: Lab) -> None:
        super().__init__(
            scope,
            "proxmox",
            terraform_resource_type="proxmox",
            terraform_generator_metadata=TerraformProviderGeneratorMetadata(
                provider_name="proxmox", provider_version_constraint=PROXMOX_VERSION
            ),
            terraform_provider_source=PROXMOX_SOURCE,
        )
        endpoint, username, address, port = _where(lab)
        self.add_override("endpoint", endpoint)
        # The agent is off: keys come by environment, and a user's own agent must not decide whether an apply works.
        node = {"name": lab.node, "address": address, "port": port}
        self.add_override("ssh", {"agent": False, "username": username, "node": [node]})


def _where(lab: Lab) -> tuple[str, str, str, int]:
    """The API's endpoint, and user, address and port of SSH to the node."""
    if lab.target.sandbox:
        sandbox = lab.target.sandbox
        return f"https://{sandbox.address}:{sandbox.api_port}/", "root", str(sandbox.address), sandbox.ssh_port
    assert lab.target.proxmox is not None  # the model allows exactly one target
    proxmox = lab.target.proxmox
    address = proxmox.ssh.address or urlsplit(proxmox.endpoint).hostname or ""
    return f"{proxmox.endpoint.rstrip('/')}/", proxmox.ssh.username, address, proxmox.ssh.port
