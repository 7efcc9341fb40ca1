"""`Proxmox`: the calls that labctl makes, typed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from labctl.adapters.proxmox import _parse
from labctl.adapters.proxmox._agent import AgentCalls
from labctl.adapters.proxmox._parse import GuestStatus
from labctl.adapters.proxmox._session import Session, path_of
from labctl.adapters.proxmox.errors import GuestMissing, ProxmoxFailed, TaskFailed
from labctl.model.errors import AdapterError
from labctl.model.inventory import (
    Account,
    Datastore,
    FirewallRule,
    Grant,
    GuestEntry,
    Node,
    Option,
    PciMapping,
    Pool,
    Release,
    Volume,
)
from labctl.model.privileges import Permissions
from labctl.model.secret import Secret

T = TypeVar("T")
TASK_POLL_S = 0.5
LOG_LINES = 500
LOG_TAIL = 10


@dataclass(frozen=True, slots=True)
class TaskLog:
    """A task of a node: its lines, and `OK` or its error once it has ended (None while it runs)."""

    upid: str
    lines: tuple[str, ...]
    outcome: str | None


class Proxmox(AgentCalls):
    """A Proxmox VE, through its API, with a token. Made by `connect`; a context manager that closes its connections."""

    def __init__(
        self, session: Session, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._sleep = sleep
        self._clock = clock
        self._where: dict[int, tuple[str, str]] = {}

    @classmethod
    def connect(cls, endpoint: str, token_id: str, token: Secret, ca_file: Path | None = None, timeout_s: float = 30.0) -> Self:
        """A client of the API at `endpoint`. Nothing is sent yet: the first call tells whether the API answers.

        Args:
            endpoint: `https://host:8006`.
            token_id: `user@realm!name`.
            token: The token's value.
            ca_file: PEM of the authority of the API's certificate; None: the system's.
            timeout_s: How long one answer may take, in seconds.

        Raises:
            UserError: The endpoint, the token id or the file has not the form that it must have.
        """
        return cls(Session(endpoint, token_id, token, ca_file, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    @property
    def endpoint(self) -> str:
        """The API's address."""
        return self._session.endpoint

    @property
    def token_id(self) -> str:
        """`user@realm!name` of the token."""
        return self._session.token_id

    def _read(self, read: Callable[[Any], T], path: str, **params: Any) -> T:
        return _parse.parsed(self._session.endpoint, f"GET /{path}", read, self._session.get(path, **params))

    def version(self) -> Release:
        """The version of Proxmox VE."""
        return self._read(_parse.release, "version")

    def resources(self) -> tuple[GuestEntry, ...]:
        """The cluster's guests that the token may see, by VMID."""
        found = self._read(_parse.guests, "cluster/resources", type="vm")
        self._where = {guest.vmid: (guest.node, guest.kind) for guest in found}
        return found

    def nodes(self) -> tuple[Node, ...]:
        """The cluster's nodes."""
        return self._read(_parse.nodes, "nodes")

    def datastores(self, node: str) -> tuple[Datastore, ...]:
        """The datastores of a node that the token may see, disabled ones too."""
        return self._read(_parse.datastores, path_of("nodes", node, "storage"))

    def bridges(self, node: str) -> tuple[str, ...]:
        """Names of the node's bridges and virtual networks that the token may see."""
        return self._read(_parse.bridges, path_of("nodes", node, "network"), type="any_bridge")

    def permissions(self) -> Permissions:
        """What the token may do."""
        return self._read(_parse.permissions, "access/permissions")

    def volumes(self, node: str, datastore: str, content: str | None = None) -> tuple[Volume, ...]:
        """The volumes on a datastore, of one content type (`snippets`, `import`, `images`, …) or of all."""
        path = path_of("nodes", node, "storage", datastore, "content")
        return self._read(_parse.volumes, path, **({"content": content} if content else {}))

    def pools(self) -> tuple[Pool, ...]:
        """The resource pools that the token may see."""
        return self._read(_parse.pools, "pools")

    def firewall_rules(self, vmid: int) -> tuple[FirewallRule, ...]:
        """The rules of a guest's firewall, in their order."""
        return self._read(_parse.firewall_rules, self._guest_path(vmid, "firewall", "rules"))

    def firewall_enabled(self) -> bool:
        """Whether the datacenter's firewall is on; guests' rules count only then."""
        return self._read(lambda found: _parse.flag(found.get("enable")), "cluster/firewall/options")

    def guest_firewall(self, vmid: int) -> bool:
        """Whether the firewall of a guest is on."""
        return self._read(lambda found: _parse.flag(found.get("enable")), self._guest_path(vmid, "firewall", "options"))

    def options(self, vmid: int) -> tuple[Option, ...]:
        """A guest's configuration, with what waits for its next start."""
        return self._read(_parse.options, self._guest_path(vmid, "pending"))

    def pci_mappings(self, node: str) -> tuple[PciMapping, ...]:
        """The PCI mappings that the token may see, held against the devices of a node."""
        return self._read(_parse.pci_mappings, "cluster/mapping/pci", **{"check-node": node})

    def accounts(self) -> tuple[Account, ...]:
        """The users that the token may see, at least its own, with their tokens."""
        return self._read(_parse.accounts, "access/users", full=1)

    def grants(self) -> tuple[Grant, ...]:
        """The part of the access control list that the token may see."""
        return self._read(_parse.grants, "access/acl")

    def roles(self) -> Mapping[str, frozenset[str]]:
        """Privileges by role."""
        return self._read(_parse.roles, "access/roles")

    def time(self, node: str) -> int:
        """The node's clock, in seconds since 1970-01-01 UTC."""
        return self._read(lambda found: int(found["time"]), path_of("nodes", node, "time"))

    def vmid_free(self, vmid: int) -> bool:
        """Whether no guest has this VMID, not even one that the token may not see."""
        try:
            self._session.get("cluster/nextid", vmid=vmid)
        except ProxmoxFailed as error:
            if "already exists" in error.message:
                return False
            raise
        return True

    def guest(self, vmid: int) -> GuestEntry:
        """One guest as the cluster lists it.

        Raises:
            GuestMissing: There is none, or the token may not see it.
        """
        for guest in self.resources():
            if guest.vmid == vmid:
                return guest
        raise GuestMissing(
            f"there is no guest {vmid}, or the token may not see it",
            status=404,
            where=self.endpoint,
            hint="`qm list` on each node.",
        )

    def status(self, vmid: int) -> GuestStatus:
        """How a guest runs."""
        return self._read(_parse.status, self._guest_path(vmid, "status", "current"))

    def start(self, vmid: int, timeout_s: float = 120.0) -> None:
        """Starts a guest and waits for the task; a running one is left as it is.

        Raises:
            TaskFailed: It did not start; with the task's last lines.
        """
        if self.status(vmid).status != "running":
            self._run_task(self._guest_path(vmid, "status", "start"), timeout_s)

    def stop(self, vmid: int, timeout_s: float = 120.0) -> None:
        """Pulls a guest's plug and waits for the task; a stopped one is left as it is."""
        if self.status(vmid).status != "stopped":
            self._run_task(self._guest_path(vmid, "status", "stop"), timeout_s)

    def shutdown(self, vmid: int, timeout_s: float = 180.0) -> None:
        """Asks a guest to shut down and waits for it; a stopped one is left as it is.

        Raises:
            TaskFailed: It did not shut down in time.
        """
        if self.status(vmid).status != "stopped":
            self._run_task(self._guest_path(vmid, "status", "shutdown"), timeout_s + 5, timeout=int(timeout_s))

    def task_log(self, upid: str) -> TaskLog:
        """The lines of a task and how it ended."""
        path = path_of("nodes", _node_of_task(upid), "tasks", upid)
        lines = self._read(_parse.log_lines, f"{path}/log", limit=LOG_LINES)
        return TaskLog(upid, lines, self._read(_outcome, f"{path}/status"))

    def wait_task(self, upid: str, timeout_s: float) -> None:
        """Waits for a task's end.

        Raises:
            TaskFailed: It ended with an error.
            AdapterError: It has not ended in time.
        """
        path = path_of("nodes", _node_of_task(upid), "tasks", upid, "status")
        deadline = self._clock() + timeout_s
        while (outcome := self._read(_outcome, path)) is None:
            if self._clock() >= deadline:
                raise AdapterError(
                    f"task {upid} has not ended after {timeout_s:g} s",
                    where=self.endpoint,
                    hint="It goes on; the node's task list shows it.",
                )
            self._sleep(TASK_POLL_S)
        # A task that only warned has done its work.
        if outcome != "OK" and not outcome.startswith("WARNINGS"):
            log = self.task_log(upid).lines[-LOG_TAIL:]
            raise TaskFailed(f"task {upid.split(':')[5]} failed: {outcome}", log=log, where=self.endpoint, hint="\n".join(log))

    def _run_task(self, path: str, timeout_s: float, **fields: Any) -> None:
        upid = _parse.parsed(self.endpoint, f"POST /{path}", _upid, self._session.post(path, **fields))
        self.wait_task(upid, timeout_s)

    def _guest_path(self, vmid: int, *rest: str) -> str:
        if vmid not in self._where:
            self.guest(vmid)
        node, kind = self._where[vmid]
        return path_of("nodes", node, kind, vmid, *rest)


def _outcome(found: Any) -> str | None:
    return str(found.get("exitstatus") or "unknown") if found["status"] == "stopped" else None


def _upid(found: Any) -> str:
    if not str(found).startswith("UPID:"):
        raise ValueError(found)
    return str(found)


def _node_of_task(upid: str) -> str:
    return upid.split(":")[1]
