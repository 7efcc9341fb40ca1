"""What the emulated hypervisor remembers, and how it survives a restart or a kill."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from labctl.model.errors import UserError
from labctl.sandbox.pve.formats import GIB, TIB

FORMAT = 1
TASKS_KEPT = 1000
Value = str | int


@dataclass(slots=True)
class Guest:
    """A VM (`qemu`) or container (`lxc`).

    `node` is "" for the emulated one. `effective` is what a running guest has of options that were changed since: None: not set.
    """

    vmid: int
    kind: str
    name: str
    config: dict[str, Value] = field(default_factory=dict)
    pool: str = ""
    lock: str = ""
    status: str = "stopped"
    started_at: float = 0.0
    node: str = ""
    effective: dict[str, Value | None] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.status == "running"

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return [tag for tag in str(self.config.get("tags", "")).replace(",", ";").split(";") if tag]


@dataclass(slots=True)
class Volume:
    """A disk image on block storage. Sizes in bytes."""

    content: str
    format: str
    size: int
    vmid: int = 0
    ctime: int = 0


@dataclass(slots=True)
class Storage:
    """A datastore."""

    type: str
    content: str
    total: int
    path: str = ""
    options: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class User:
    """A user; `password` is a salted hash, "" where none was set."""

    enable: int = 1
    expire: int = 0
    comment: str = ""
    email: str = ""
    firstname: str = ""
    lastname: str = ""
    keys: str = ""
    groups: str = ""
    password: str = ""


@dataclass(slots=True)
class Token:
    """An API token; only the SHA-256 of its random value is kept."""

    value_sha256: str
    privsep: int = 1
    expire: int = 0
    comment: str = ""


@dataclass(slots=True)
class AclEntry:
    """One line of the access control list; `type` is user, group or token."""

    path: str
    type: str
    ugid: str
    roleid: str
    propagate: int = 1


@dataclass(slots=True)
class Firewall:
    """The firewall of the cluster, a node or a guest."""

    rules: list[dict[str, Value]] = field(default_factory=list)
    options: dict[str, Value] = field(default_factory=dict)
    aliases: dict[str, dict[str, Value]] = field(default_factory=dict)
    ipsets: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Task:
    """A worker of the hypervisor and what it said."""

    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    status: str = "running"
    exitstatus: str = ""
    endtime: int = 0
    log: list[str] = field(default_factory=list)


def _storages() -> dict[str, Storage]:
    return {
        "local": Storage("dir", "iso,vztmpl,backup,import,snippets", 200 * GIB, path="/var/lib/vz"),
        "local-lvm": Storage("lvmthin", "images,rootdir", 2 * TIB, options={"vgname": "pve", "thinpool": "data"}),
    }


@dataclass(slots=True)
class State:
    """Everything that lasts. `nodes` are further nodes of the cluster, with nothing behind them, and whether they are online."""

    guests: dict[str, Guest] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=_storages)
    pools: dict[str, str] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=lambda: {"root@pam": User()})
    groups: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    acl: list[AclEntry] = field(default_factory=list)
    mappings: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {"pci": {}, "usb": {}, "dir": {}})
    firewalls: dict[str, Firewall] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    hosts: str = "127.0.0.1 localhost.localdomain localhost\n"
    dns: dict[str, str] = field(default_factory=lambda: {"search": "example.com", "dns1": "192.0.2.1"})
    timezone: str = "UTC"
    next_pid: int = 1000
    nodes: dict[str, bool] = field(default_factory=dict)


_NESTED: dict[str, type[Any]] = {
    "guests": Guest,
    "volumes": Volume,
    "storages": Storage,
    "users": User,
    "tokens": Token,
    "firewalls": Firewall,
    "tasks": Task,
}

T = TypeVar("T")


def _build(kind: type[T], raw: dict[str, Any]) -> T:
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in raw.items() if key in known})


def from_json(raw: dict[str, Any]) -> State:
    """The state from what `to_json` wrote."""
    state = _build(State, raw)
    for name, kind in _NESTED.items():
        setattr(state, name, {key: _build(kind, value) for key, value in getattr(state, name).items() if isinstance(value, dict)})
    state.acl = [_build(AclEntry, entry) for entry in raw.get("acl", [])]
    return state if raw.get("storages") else State()


def to_json(state: State) -> dict[str, Any]:
    """The state as JSON values."""
    return {"format": FORMAT, **asdict(state)}


class StateFile:
    """The state on disk: replaced as a whole, so that a kill at any moment leaves the old one or the new one.

    Args:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> State:
        """The state, a fresh one where there is no file.

        Raises:
            UserError: The file is not what this version wrote.
        """
        try:
            raw = json.loads(self.path.read_text())
        except FileNotFoundError:
            return State()
        except ValueError as error:
            raise UserError(
                f"the sandbox's state is not readable: {error}", where=str(self.path), hint="Run `labctl sandbox reset`."
            ) from error
        if raw.get("format") != FORMAT:
            raise UserError(
                f"the sandbox's state has format {raw.get('format')}, this version reads {FORMAT}",
                where=str(self.path),
                hint="Run `labctl sandbox reset`, or use the version that wrote it.",
            )
        return _settle(from_json(raw))

    def save(self, state: State) -> None:
        """Write the state, through to the disk."""
        _drop_old_tasks(state)
        fresh = self.path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(to_json(state), file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _drop_old_tasks(state: State) -> None:
    ended = [upid for upid, task in state.tasks.items() if task.status == "stopped"]
    for upid in ended[: max(0, len(state.tasks) - TASKS_KEPT)]:
        del state.tasks[upid]


def _settle(state: State) -> State:
    """What a host finds after it was cut off: nothing runs, no task is alive, a half-made guest is gone (PVE removes it too)."""
    for task in state.tasks.values():
        if task.status == "running":
            task.status, task.exitstatus = "stopped", "unexpected status"
    for key in [key for key, guest in state.guests.items() if guest.lock == "create"]:
        del state.guests[key]
        for volid in [volid for volid, volume in state.volumes.items() if volume.vmid == int(key)]:
            del state.volumes[volid]
    for guest in state.guests.values():
        guest.status = "stopped"
    return state
