"""What labctl and a guest agree on: files and units, the same on a real VM and on the sandbox.

The private key never leaves the guest: the guest makes a key and a certificate request on its first boot, labctl reads the
request through the guest agent, signs it with the lab's authority and writes the certificate back. Everything under `/run/lab`
is secret, lies on a tmpfs, and is delivered again after a reboot.
"""

from __future__ import annotations

from dataclasses import dataclass

RUN_DIR = "/run/lab"
CA_FILE = "/usr/local/share/ca-certificates/lab.crt"

OPS = "ops"
"""The user that people and labctl log in as."""

SSH_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
"""The public half of the one key by which a guest is known."""

INSTANCE_ID = "/var/lib/cloud/data/instance-id"
"""cloud-init's name for this instance of the guest: a new one means that all of the first boot was done again."""

SET_UP = "/var/lib/lab/set-up"
"""Made by the last command of the first boot. cloud-init itself says `done` also of one that was cut off by a reboot."""

USER_DATA = "/var/lib/cloud/instance/user-data.txt"
"""The document that this instance of the guest was made from."""

MACHINE_ID = "/etc/machine-id"
"""What systemd gave the installation when it first started."""

CLOUD_INIT_STATUS = "/run/cloud-init/status.json"
CLOUD_INIT_LOG = "/var/log/cloud-init-output.log"

IDENTITY_UNIT = "lab-identity.service"
"""OpenBao's agent: logs in with the one-time identity, and keeps what the guest needs under `/run/lab` as it is in the Vault."""

AGENT_CONFIG = "/etc/lab/agent.hcl"
ROLE_ID = f"{RUN_DIR}/role-id"
WRAPPED_SECRET_ID = f"{RUN_DIR}/secret-id.wrapped"
IDENTITY_READY = f"{RUN_DIR}/identity.json"
"""Whom the guest is logged in as; nothing secret. It is there once the agent has logged in."""

GITLAB_SECRETS_FILE = f"{RUN_DIR}/gitlab.json"
RUNNER_TOKEN_FILE = f"{RUN_DIR}/runner.token"
BUCKET_FILE = f"{RUN_DIR}/s3.json"


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
        identity: Whether the guest gets a one-time identity for the Vault. Not those that come before the Vault.
        services: The units of a guest that boots, for people who look at it; the role's own first.
    """

    name: str
    unit: str = ""
    csr: str = ""
    cert: str = ""
    credentials: str = ""
    port: int = 0
    identity: bool = False
    services: tuple[str, ...] = ()

    def units(self, *, boots: bool) -> tuple[str, ...]:
        """The units to look at. An appliance has only what serves the role, or reads its secrets."""
        own = (self.unit, IDENTITY_UNIT if self.identity else "")
        return self.services if boots else tuple(filter(None, own))

    @property
    def tag(self) -> str:
        """The hypervisor's tag of guests with this role."""
        return f"role-{self.name}"


VAULT = GuestRole(
    "vault",
    unit="openbao.service",
    csr="/etc/openbao/tls/server.csr",
    cert="/etc/openbao/tls/server.crt",
    port=8200,
    services=("openbao.service",),
)
STORE = GuestRole(
    "store",
    unit="seaweedfs.service",
    csr="/etc/seaweedfs/tls/server.csr",
    cert="/etc/seaweedfs/tls/server.crt",
    credentials=f"{RUN_DIR}/s3.json",
    port=9000,
    services=("seaweedfs.service",),
)
GITLAB = GuestRole(
    "gitlab",
    port=80,
    identity=True,
    services=("gitlab-runsvdir.service", "gitlab-runner.service", "docker.service", IDENTITY_UNIT),
)
DOCKER = GuestRole("docker", port=22, identity=True, services=("docker.service", IDENTITY_UNIT))

ROLES = {role.name: role for role in (VAULT, STORE, GITLAB, DOCKER)}

PACKAGES_PORT = 8088
"""Where the sandbox serves its packages, on the gateway of guests that boot."""

VAULT_AUDIT_LOG = "/var/log/openbao/audit.log"

VAULT_RESET_UNIT = "openbao-reset.service"
"""Empties the storage of a Vault whose initialisation was cut off before its keys were kept. Never run on one that has keys."""
