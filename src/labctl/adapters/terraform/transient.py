"""Which failures pass by themselves within seconds, so that a reading may be tried again: a short list, each with its reason.

Only what says of itself that nothing is wrong with the request is in it. Anything else is told to people at once. What changes
something is never simply sent again: a fresh plan shows first what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from labctl.adapters.terraform.diagnostics import Diagnostic
from labctl.adapters.terraform.remedies import explain


@dataclass(frozen=True, slots=True)
class Transient:
    """A failure that passes by itself.

    Attributes:
        id: Its name.
        pattern: Matches the diagnostic's text.
        why: Why waiting helps.
    """

    id: str
    pattern: re.Pattern[str]
    why: str


@dataclass(frozen=True, slots=True)
class Passing:
    """A transient failure that was met.

    Attributes:
        id: The rule's.
        words: What the system said, as one line.
        why: Why waiting helps.
        address: The resource's address, "" when it is about none.
    """

    id: str
    words: str
    why: str
    address: str = ""


def _transient(name: str, pattern: str, why: str) -> Transient:
    return Transient(name, re.compile(pattern.replace(" ", r"\s+")), why)


TRANSIENTS: tuple[Transient, ...] = (
    _transient(
        "no-quorum",
        # PVE::Cluster, check_cfs_quorum: "cluster not ready - no quorum?" (measured); cfs_lock: "cfs-lock 'file-user_cfg' error:
        # no quorum!", in older releases "error with cfs lock 'file-user_cfg': no quorum!".
        r"cluster not ready - no quorum\?|cfs[- ]lock '[^']+'[^\n]{0,10}: no quorum!",
        "a node of the cluster is away for a moment, as in its reboot",
    ),
    _transient(
        "lock-file-timeout",
        # PVE::Tools, lock_file_full; PVE::AbstractConfig locks a guest's configuration that way for 10 s. Measured.
        r"can't lock file '[^']+' - got timeout",
        "another task changes the same file just now",
    ),
    _transient(
        "cluster-lock-timeout",
        # PVE::Cluster, cfs_lock: "cfs-lock 'storage-NAME' error: got lock request timeout"; in older releases "error with cfs
        # lock 'storage-NAME': got lock request timeout".
        r"cfs[- ]lock '[^']+'[^\n]{0,10}: got lock request timeout",
        "another task works on the same datastore or the cluster's configuration just now",
    ),
    _transient(
        "guest-being-made",
        # PVE::AbstractConfig, check_lock: "VM is locked (create)", containers "CT is locked (create)". These two locks belong to
        # a task that makes the guest, and go with it. The others stay for minutes or until somebody acts: backup, migrate,
        # rollback, snapshot, snapshot-delete, suspending, suspended, disk.
        r"(?:VM|CT) is locked \((?:create|clone)\)",
        "the task that makes the guest has not ended",
    ),
    _transient(
        "node-proxy",
        # PVE::APIServer::AnyEvent, proxy_request: pveproxy passes on what AnyEvent::HTTP calls it when pvedaemon or another node
        # does not answer; 595 while connecting, 596 while sending. Both measured with an emulated PVE. 597 to 599 come in the
        # middle of an answer or mean a wrong URL.
        r"HTTP 59[56] response - Reason: [^\n]+",
        "pveproxy cannot reach pvedaemon or the other node for a moment, as in an upgrade",
    ),
    _transient(
        "unavailable",
        # RFC 9110, 15.6.4: the server cannot answer now and will soon. Not seen from pveproxy itself, but from a proxy before it.
        r"HTTP 503 response - Reason: [^\n]+",
        "the server says that it is busy",
    ),
    _transient(
        "read-cut-off",
        # Go's net/http through `api.Client.DoRequest` of bpg/proxmox 0.111.1, which has tried three times then (measured). Only
        # GET: whether a request that changes something was carried out, its lost answer does not tell.
        r"failed to (?:perform HTTP GET request|(?:decode|read) HTTP GET response(?: body)?) "
        r"\(path: [^)]*\) - Reason: [^\n]*(?:connection reset by peer|\bEOF)\b",
        "the connection was cut while reading",
    ),
)

_ATTEMPT = re.compile(r"^#\d+: ", re.MULTILINE)
_ECHO = "interrupted"
"""The rule of what another error brings with it: Terraform stops the rest when one resource fails."""


def passing_faults(diagnostics: Iterable[Diagnostic]) -> tuple[Passing, ...]:
    """What passes by itself in a failed command; empty where anything in it does not, or nothing failed."""
    found: dict[Passing, None] = {}
    for diagnostic in diagnostics:
        if not diagnostic.is_error:
            continue
        passing = _passing(diagnostic)
        if passing is not None:
            found[passing] = None
        elif (remedy := explain(diagnostic)) is None or remedy.rule != _ECHO:
            return ()
    return tuple(found)


def is_transient(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether a command failed by nothing but what passes by itself within seconds."""
    return bool(passing_faults(diagnostics))


def _passing(diagnostic: Diagnostic) -> Passing | None:
    if diagnostic.is_own:
        return None
    # Of several attempts by the provider itself, the last one tells how things stand.
    text = _ATTEMPT.split(diagnostic.text)[-1]
    for rule in TRANSIENTS:
        match = rule.pattern.search(text)
        if match:
            return Passing(rule.id, " ".join(match[0].split()), rule.why, diagnostic.address)
    return None
