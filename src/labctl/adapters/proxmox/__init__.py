"""Talks to the API of Proxmox VE: what the hypervisor holds, the token's rights, power, tasks and the guest agent.

`Proxmox.connect` is the way in; `gather` reads all that a preflight looks at, `inventory.take_inventory` what a drift check
compares, which only such a check imports. Answers become frozen values where they enter (`labctl.model.inventory`,
`ExecResult`), and everything that goes wrong becomes one of the errors below, with what to do next.
Reads are repeated when a connection drops or the server stumbles; nothing that changes something is ever sent twice. This room
knows proxmoxer and requests; it never applies Terraform, knows no other adapter and logs no content.
"""

from labctl.adapters.proxmox._client import Proxmox, TaskLog
from labctl.adapters.proxmox._parse import ExecResult, GuestStatus, Interface
from labctl.adapters.proxmox._session import parse_token
from labctl.adapters.proxmox.errors import (
    AgentUnavailable,
    CertificateUnknown,
    FileMissing,
    GuestMissing,
    NotTheApi,
    PermissionMissing,
    ProxmoxFailed,
    StillRunning,
    TaskFailed,
    TokenRefused,
    Unreachable,
)
from labctl.adapters.proxmox.facts import gather

__all__ = [
    "AgentUnavailable",
    "CertificateUnknown",
    "ExecResult",
    "FileMissing",
    "GuestMissing",
    "GuestStatus",
    "Interface",
    "NotTheApi",
    "PermissionMissing",
    "Proxmox",
    "ProxmoxFailed",
    "StillRunning",
    "TaskFailed",
    "TaskLog",
    "TokenRefused",
    "Unreachable",
    "gather",
    "parse_token",
]
