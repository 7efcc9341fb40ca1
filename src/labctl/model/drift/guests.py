"""What a guest is like inside, against what labctl made of it. Pure.

The reference for its files is the document that the guest itself was made from: a newer one reaches new guests only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.model.drift.finding import Change, Finding, Kind, Severity
from labctl.model.guestfiles import AGENT_CONFIG, CA_FILE
from labctl.model.openings import Opening

AREA = "guests"
CLOCK_S = 5.0
"""Two clocks that are set by NTP differ by much less."""

NOT_HELD: Mapping[str, str] = {
    "/etc/lab/runner.env": "`labctl up` writes into it how many jobs the runner takes, which is looked at by itself",
}
"""Files of the first boot that are meant to change, with the reason."""

NOT_HELD_WITH_GPU: Mapping[str, str] = {
    "/etc/docker/daemon.json": "the GPU's own tool adds its runtime",
}

ACCESS_FILES = frozenset(
    {
        "/etc/ssh/sshd_config.d/10-lab.conf",
        "/etc/docker/daemon.json",
        "/etc/gitlab/gitlab.rb",
        "/etc/gitlab/trusted-certs/lab.crt",
        "/etc/openbao/openbao.hcl",
        AGENT_CONFIG,
        CA_FILE,
    }
)
"""Who gets in, and whom the guest trusts, stands in these."""

KNOWN_LISTENERS: Mapping[int, str] = {
    22: "SSH, by which labctl and people log in; the firewall opens it where the contract says so",
    5355: "systemd-resolved, which answers to names on the local network (LLMNR)",
}
"""Ports that the system itself has open in every guest."""

KNOWN_LISTENERS_OF: Mapping[str, Mapping[int, str]] = {
    "gitlab": {8060: "GitLab's own page on how its nginx is, which its firewall keeps inside"},
}


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file as it was written."""

    path: str
    sha256: str
    mode: str


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as it is; `mode` is "" where it is not known."""

    sha256: str
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that something listens on, at an address, and what that is ("" where it is not known)."""

    address: str
    port: int
    process: str = ""

    @property
    def loopback(self) -> bool:
        """Whether only the guest itself reaches it."""
        return self.address.removeprefix("::ffff:").startswith("127.") or self.address == "::1"


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """A guest from inside; None for what was not looked at.

    Attributes:
        files: By path; one that is missing is not in it.
        listeners: TCP ports that are open.
        units: The state of each unit that the role has, by name; `missing` where there is no such unit.
        failed: Every unit that failed.
        checksum_disabled: GitLab's registry as it runs: `true`, `false`, "" where its settings do not say it.
        concurrent: How many jobs GitLab's runner takes; 0 where its settings do not say it.
        concurrent_applied: How many labctl told it last.
        reboot: Whether a reboot is waited for.
        clock_s: By how much its clock is ahead, in seconds.
    """

    files: Mapping[str, FoundFile]
    listeners: tuple[Listener, ...] | None = None
    units: Mapping[str, str] | None = None
    failed: tuple[str, ...] = ()
    checksum_disabled: str | None = None
    concurrent: int | None = None
    concurrent_applied: int | None = None
    reboot: bool = False
    clock_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a guest is held against.

    Attributes:
        guest: Its name. `layer` is that which made it.
        files: As its first boot wrote them.
        openings: The ports that others may reach.
        concurrent: How many jobs lab.yaml lets the runner take; 0 for a guest without a runner.
    """

    guest: str
    layer: str
    files: tuple[HeldFile, ...]
    openings: tuple[Opening, ...] = ()
    concurrent: int = 0


def held_files(document: Any, *, gpu: bool = False) -> tuple[HeldFile, ...]:
    """The files of a user-data document that stay as they were written.

    Args:
        document: The document as read from YAML.
        gpu: Whether the guest has a GPU.
    """
    entries = document.get("write_files") if isinstance(document, dict) else None
    skipped = {**NOT_HELD, **(NOT_HELD_WITH_GPU if gpu else {})}
    return tuple(
        HeldFile(str(one["path"]), digest(str(one.get("content", "")).encode()), str(one.get("permissions", "")))
        for one in entries or ()
        if isinstance(one, dict) and "path" in one and one["path"] not in skipped
    )


def digest(content: bytes) -> str:
    """The SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def snippets(state: Mapping[str, Any]) -> dict[str, str]:
    """The user-data documents that a stack has uploaded, by file name, from its state document."""
    found: dict[str, str] = {}
    for resource in state.get("resources", ()):
        if resource.get("mode") == "managed" and resource.get("type") == "proxmox_virtual_environment_file":
            raws = (raw for one in resource.get("instances", ()) for raw in one.get("attributes", {}).get("source_raw") or ())
            found |= {str(raw.get("file_name", "")): str(raw.get("data", "")) for raw in raws}
    return found


def hidden(privileges: Collection[str] = ()) -> Finding:
    """The token may not ask the agents: nothing is known about the inside of guests.

    Args:
        privileges: Any one of them would do; empty where PVE does not say.
    """
    lacking = " or ".join(privileges) or "VM.GuestAgent.Unrestricted (VM.Monitor on Proxmox VE 8)"
    text = (
        f"the guests were not looked into: the token lacks {lacking}, by which whoever has it is root in them. "
        "Give it that, or accept this in drift.yaml and run `labctl drift` as an operator now and then."
    )
    return Finding(AREA, Kind.HIDDEN, "agent", text, Severity.LOW)


# --- comparing


def compare_guest(held: Held, found: GuestFacts) -> tuple[tuple[Finding, ...], tuple[str, ...], int]:
    """What is not as it was made, notes, and how many things were compared."""
    findings = [*_files(held, found), *_ports(held, found), *_units(held, found), *_gitlab(held, found)]
    looked = len(held.files) + len(found.units or ()) + len(found.listeners or ()) + (2 if found.concurrent is not None else 0)
    return tuple(findings), tuple(_notes(held, found)), looked


def _files(held: Held, found: GuestFacts) -> Iterator[Finding]:
    for file in held.files:
        there = found.files.get(file.path)
        severity = Severity.HIGH if file.path in ACCESS_FILES else Severity.MEDIUM
        if there is None:
            text = f"file {file.path}, which labctl wrote, is gone from guest {held.guest}"
            yield _finding(held, Kind.MISSING, f"file{file.path}", text, severity)
            continue
        changes = []
        if there.sha256 != file.sha256:
            changes.append(Change("sha256", file.sha256, there.sha256))
        if there.mode and file.mode and int(there.mode, 8) != int(file.mode, 8):
            changes.append(Change("mode", file.mode.lstrip("0"), there.mode))
        if changes:
            what = " and ".join({"sha256": "content", "mode": f"mode (now {there.mode})"}[one.path] for one in changes)
            text = f"file {file.path} on guest {held.guest} is no longer as labctl wrote it: its {what} changed"
            yield _finding(held, Kind.CHANGED, f"file{file.path}", text, severity, changes)


def _ports(held: Held, found: GuestFacts) -> Iterator[Finding]:
    allowed = {opening.port for opening in held.openings} | KNOWN_LISTENERS.keys() | KNOWN_LISTENERS_OF.get(held.guest, {}).keys()
    beyond: dict[int, list[Listener]] = {}
    for one in found.listeners or ():
        if not one.loopback and one.port not in allowed:
            beyond.setdefault(one.port, []).append(one)
    for port, listeners in sorted(beyond.items()):
        who = ", ".join(sorted({one.process for one in listeners if one.process})) or "something"
        where = ", ".join(sorted({one.address for one in listeners}))
        text = f"{who} on guest {held.guest} listens on port {port} ({where}), which its contract does not have"
        yield _finding(held, Kind.UNMANAGED, f"port/{port}", text, Severity.HIGH, [Change(f"port {port}", None, who)])


def _units(held: Held, found: GuestFacts) -> Iterator[Finding]:
    own = found.units or {}
    for name, state in own.items():
        if state not in ("active", *_PASSING):
            text = (
                f"{name} on guest {held.guest} is {state}: `labctl up` starts it, `labctl console {held.guest}` says why it ended"
            )
            yield _finding(held, Kind.CHANGED, f"unit/{name}", text, Severity.MEDIUM, [Change("state", "active", state)])
    for name in found.failed:
        if name not in own:
            severity = Severity.MEDIUM if name.startswith("lab-") else Severity.LOW
            text = f"{name} on guest {held.guest} failed: `journalctl -u {name}` there says why"
            yield _finding(held, Kind.CHANGED, f"unit/{name}", text, severity, [Change("state", "", "failed")])


_PASSING = ("activating", "reloading", "deactivating")


def _gitlab(held: Held, found: GuestFacts) -> Iterator[Finding]:
    """GitLab's two fixes: without one, large images are not stored; without the other, a waiting job holds the only slot."""
    if found.checksum_disabled is not None and found.checksum_disabled != "true":
        text = (
            f"checksum_disabled of GitLab's registry is {found.checksum_disabled or 'not set'}: large images cannot be pushed. "
            "`gitlab-ctl reconfigure` in the guest sets it again, where /etc/gitlab/gitlab.rb is as labctl wrote it."
        )
        changes = [Change("checksum_disabled", "true", found.checksum_disabled or None)]
        yield _finding(held, Kind.CHANGED, "registry/checksum_disabled", text, Severity.HIGH, changes)
    jobs, wanted = found.concurrent, held.concurrent
    if jobs is None or jobs == wanted:
        return
    changes = [Change("concurrent", wanted, jobs or None)]
    if jobs and jobs == found.concurrent_applied:
        text = f"GitLab's runner takes {jobs} jobs at once, and lab.yaml now says {wanted}: `labctl up` sets it."
        yield _finding(held, Kind.PENDING, "runner/concurrent", text, Severity.LOW, changes)
    else:
        text = (
            f"concurrent of GitLab's runner is {jobs or 'not set'}, should be {wanted}: a job that waits for another pipeline "
            "may hold the only slot for ever. `labctl up` sets it again."
        )
        yield _finding(held, Kind.CHANGED, "runner/concurrent", text, Severity.HIGH, changes)


def _notes(held: Held, found: GuestFacts) -> Iterator[str]:
    if found.reboot:
        yield f"guest {held.guest} waits for a reboot, after an update of its system"
    if abs(found.clock_s) > CLOCK_S:
        how = "ahead" if found.clock_s > 0 else "behind"
        yield f"the clock of guest {held.guest} is {abs(found.clock_s):.0f} s {how} of this machine's: `timedatectl` there"
    for name, state in (found.units or {}).items():
        if state in _PASSING:
            yield f"{name} on guest {held.guest} is {state} just now"


def _finding(held: Held, kind: Kind, id_: str, text: str, severity: Severity, changes: Collection[Change] = ()) -> Finding:
    name = f"{held.guest}/{id_}"
    return Finding(AREA, kind, name, text, severity, layer=held.layer, guest=held.guest, changes=tuple(changes))
