"""What can go wrong with Proxmox VE's API, each with its remedy.

The sentences that PVE answers are recognised here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.model.errors import AdapterError, LabError, UserError


class Unreachable(AdapterError):
    """The endpoint does not answer: refused, unknown name, timeout, dropped connection."""


class CertificateUnknown(UserError):
    """The endpoint's certificate is not signed by an authority that we trust, or is for another name."""


class NotTheApi(UserError):
    """Something answers at the endpoint, but it is not the API of Proxmox VE."""


class TokenRefused(UserError):
    """The API token is wrong, expired or disabled."""


class PermissionMissing(UserError):
    """The token lacks a privilege.

    Args:
        message: One sentence.
        path: Where it was checked; "" when PVE does not say.
        privileges: Any one of them would do; empty when PVE does not say.
        hint: What to do next.
        where: The endpoint.
    """

    def __init__(self, message: str, *, path: str, privileges: tuple[str, ...], hint: str, where: str) -> None:
        super().__init__(message, hint=hint, where=where)
        self.path = path
        self.privileges = privileges


class ProxmoxFailed(AdapterError):
    """Proxmox VE answered with an error of its own. `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int, hint: str = "", where: str = "") -> None:
        super().__init__(message, hint=hint, where=where)
        self.status = status


class GuestMissing(ProxmoxFailed):
    """There is no such guest, or the token may not see it."""


class AgentUnavailable(ProxmoxFailed):
    """The guest agent cannot be asked now: not configured, not running yet, or the guest is off."""


class FileMissing(ProxmoxFailed):
    """There is no such file in the guest."""


class StillRunning(AdapterError):
    """A command in a guest has not ended in time; it goes on there."""


class TaskFailed(AdapterError):
    """A task of the node ended with an error. `log` holds its last lines."""

    def __init__(self, message: str, *, log: tuple[str, ...], hint: str = "", where: str = "") -> None:
        super().__init__(message, hint=hint, where=where)
        self.log = log


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer of 400 and above.

    Attributes:
        status: The HTTP status.
        message: PVE's sentence.
        errors: Parameter → what is wrong with it.
        is_json: Whether the body is JSON, as every answer of the API is.
    """

    status: int
    message: str
    errors: Mapping[str, str] = field(default_factory=dict)
    is_json: bool = True


PERMISSION = re.compile(r"Permission check failed \((?P<path>/[^,()]*), (?P<privileges>[A-Za-z.|]+)\)")
AGENT_DOWN = re.compile(r"(?i)guest agent is not running|got no answer|qga command .* failed - got timeout")
AGENT_NOT_CONFIGURED = re.compile(r"(?i)No QEMU guest agent configured")
AGENT_ERROR = re.compile(r"(?i)^Agent error:")
FILE_MISSING = re.compile(r"(?i)No such file or directory")
GUEST_OFF = re.compile(r"(?i)(VM|CT) \d+ (is )?not running")
GUEST_MISSING = re.compile(r"(?i)Configuration file '[^']*' does not exist|unable to find configuration file for (VM|CT)")
LOCKED = re.compile(r"(?i)is locked|can't lock file|got lock (request )?timeout")
NO_QUORUM = re.compile(r"(?i)no quorum")
PROXY_STATUSES = frozenset({595, 596, 597, 599})
"""pveproxy answers these where it cannot reach the node that it should pass a call on to (codes of AnyEvent::HTTP)."""
PASSING_STATUSES = frozenset({500, 502, 503, 504}) | PROXY_STATUSES

CA_HINT = (
    "Copy the node's own authority and name it: `scp root@NODE:/etc/pve/pve-root-ca.pem pve-root-ca.pem`, then in lab.yaml "
    "`target.proxmox.ca_file: pve-root-ca.pem`. The endpoint must use a name or address that the certificate holds."
)
CREDENTIALS_HINT = (
    "Set PROXMOX_VE_API_TOKEN to user@realm!name=value. On the node `pveum user token list USER` shows the tokens and when they "
    "expire; `pveum user token add USER NAME --privsep 0` makes one and shows its value once."
)


def permanent(refusal: Refusal) -> bool:
    """Whether asking again within a second cannot help."""
    if refusal.status not in PASSING_STATUSES:
        return True
    known = (AGENT_ERROR, AGENT_DOWN, AGENT_NOT_CONFIGURED, GUEST_OFF, GUEST_MISSING, LOCKED)
    return any(pattern.search(refusal.message) for pattern in known)


def explain(refusal: Refusal, *, doing: str, endpoint: str) -> LabError:
    """The error for an answer of 400 and above.

    Args:
        refusal: The answer.
        doing: What was asked, as `GET /version`.
        endpoint: The API's address.
    """
    if not refusal.is_json and refusal.status not in {401, 403} | PASSING_STATUSES:
        return not_the_api(endpoint, f"status {refusal.status}, no JSON")
    if refusal.status == 401:
        said = f" ({refusal.message})" if refusal.message else ""
        return TokenRefused(f"the API token is not accepted{said}", where=endpoint, hint=CREDENTIALS_HINT)
    if refusal.status == 403:
        return _permission(refusal, doing, endpoint)
    return _failed(refusal, doing, endpoint)


def _permission(refusal: Refusal, doing: str, endpoint: str) -> PermissionMissing:
    match = PERMISSION.search(refusal.message)
    hint = "`labctl doctor` lists every missing right with the command that grants it; docs/proxmox.md has them all."
    if not match:
        message = f"the API token may not {doing}: {refusal.message}"
        return PermissionMissing(message, path="", privileges=(), hint=hint, where=endpoint)
    privileges = tuple(match["privileges"].split("|"))
    message = f"the API token lacks {' or '.join(privileges)} on {match['path']} (asked: {doing})"
    return PermissionMissing(message, path=match["path"], privileges=privileges, hint=hint, where=endpoint)


def _failed(refusal: Refusal, doing: str, endpoint: str) -> ProxmoxFailed:
    status, message = refusal.status, refusal.message or f"status {refusal.status} without a reason"
    if AGENT_NOT_CONFIGURED.search(message):
        hint = "Turn the guest's agent option on and restart the guest: `qm set VMID --agent enabled=1; qm reboot VMID`."
        return AgentUnavailable(message, status=status, where=endpoint, hint=hint)
    if AGENT_DOWN.search(message) or ("/agent/" in doing and GUEST_OFF.search(message)):
        hint = (
            "Does the guest run, and qemu-guest-agent in it? `qm status VMID`, `qm agent VMID ping`; its console shows its boot."
        )
        return AgentUnavailable(message, status=status, where=endpoint, hint=hint)
    if GUEST_MISSING.search(message):
        hint = "Somebody removed the guest, or it moved to another node: `qm list` on each node."
        return GuestMissing(message, status=status, where=endpoint, hint=hint)
    if AGENT_ERROR.search(message) and FILE_MISSING.search(message):
        return FileMissing(message, status=status, where=endpoint)
    details = "; ".join(f"{name}: {text}" for name, text in refusal.errors.items())
    return ProxmoxFailed(
        f"{doing} failed: {message.strip()}{f' ({details})' if details else ''}",
        status=status,
        where=endpoint,
        hint=_status_hint(status, message),
    )


def _status_hint(status: int, message: str) -> str:
    if LOCKED.search(message):
        return "Another task holds the guest (backup, migration, snapshot). Wait for it, or see `qm config VMID | grep lock`."
    if NO_QUORUM.search(message):
        return "The cluster has no quorum, so nothing can be changed: `pvecm status` on the node."
    if status in PROXY_STATUSES:
        return "The cluster's API cannot reach the node that was asked: `pvecm status`; is the node up, and pveproxy on it?"
    if status == 501:
        return "This release of Proxmox VE does not know the call; labctl is made for Proxmox VE 9."
    if status in {502, 503, 504}:
        return "pveproxy or a proxy before it is overloaded or restarting: `systemctl status pveproxy pvedaemon` on the node."
    if status == 500:
        return "`journalctl -u pvedaemon -u pveproxy -n 50` on the node tells more."
    return ""


def not_the_api(endpoint: str, found: str) -> NotTheApi:
    """The error for an answer that is not PVE's."""
    return NotTheApi(
        f"does not answer as the API of Proxmox VE ({found})",
        where=endpoint,
        hint="target.proxmox.endpoint is the API's address, usually https://NODE:8006, with no login page before it.",
    )
