"""What labctl and a guest agree on: files and units, the same on a real VM and on the sandbox.

The private key never leaves the guest: the guest makes a key and a certificate request on its first boot, labctl reads the
request through the guest agent, signs it with the lab's authority and writes the certificate back. Everything under `/run/lab`
is secret, lies on a tmpfs, and is delivered again after a reboot.
"""

from __future__ import annotations

from dataclasses import dataclass

RUN_DIR = "/run/lab"
CA_FILE = "/usr/local/share/ca-certificates/lab.crt"


@dataclass(frozen=True, slots=True)
class GuestRole:
    """What a guest is for.

    Attributes:
        name: The role, also the tag `role-<name>` of the guest on the hypervisor.
        unit: The systemd unit that serves the role, "" where there is none yet.
        csr: Where the guest leaves its certificate request, "" where it needs no certificate.
        cert: Where labctl writes the signed certificate (followed by the authority's).
        credentials: The file under `/run/lab` that labctl delivers, "" where there is none.
        port: The TCP port that the role answers on.
    """

    name: str
    unit: str = ""
    csr: str = ""
    cert: str = ""
    credentials: str = ""
    port: int = 0

    @property
    def tag(self) -> str:
        """The hypervisor's tag of guests with this role."""
        return f"role-{self.name}"


VAULT = GuestRole(
    "vault", unit="openbao.service", csr="/etc/openbao/tls/server.csr", cert="/etc/openbao/tls/server.crt", port=8200
)
STORE = GuestRole(
    "store",
    unit="seaweedfs.service",
    csr="/etc/seaweedfs/tls/server.csr",
    cert="/etc/seaweedfs/tls/server.crt",
    credentials=f"{RUN_DIR}/s3.json",
    port=9000,
)
GITLAB = GuestRole("gitlab", port=80)
DOCKER = GuestRole("docker", port=22)

ROLES = {role.name: role for role in (VAULT, STORE, GITLAB, DOCKER)}

VAULT_AUDIT_LOG = "/var/log/openbao/audit.log"

VAULT_RESET_UNIT = "openbao-reset.service"
"""Empties the storage of a Vault whose initialisation was cut off before its keys were kept. Never run on one that has keys."""
