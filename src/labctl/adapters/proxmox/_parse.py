"""Reads the API's answers into frozen values; an answer of another shape is an error, never a KeyError further in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from labctl.adapters.proxmox.errors import NotTheApi, not_the_api
from labctl.model.errors import AdapterError
from labctl.model.inventory import (
    Account,
    ApiToken,
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

T = TypeVar("T")
BRIDGE_KINDS = frozenset({"bridge", "OVSBridge", "vnet"})


@dataclass(frozen=True, slots=True)
class GuestStatus:
    """How a guest runs.

    Attributes:
        vmid: Its number.
        status: `running` or `stopped`.
        uptime_s: For how long it has been running, in seconds.
        lock: The lock that is on it, "" without.
    """

    vmid: int
    status: str
    uptime_s: int = 0
    lock: str = ""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """A command that ended in a guest. Killed by a signal: `exit_code` is 128 + its number, as in a shell."""

    exit_code: int
    out: str
    err: str

    def check(self, what: str) -> ExecResult:
        """Itself, when it succeeded.

        Raises:
            AdapterError: It did not; with `what` it was and the last lines that it wrote.
        """
        if self.exit_code != 0:
            said = (self.err.strip() or self.out.strip()).splitlines()[-5:]
            raise AdapterError(f"{what} failed in the guest with exit code {self.exit_code}", hint="\n".join(said))
        return self


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface as the guest sees it; addresses without prefix, IPv4 first."""

    name: str
    addresses: tuple[str, ...]


def parsed(endpoint: str, what: str, read: Callable[[Any], T], answer: Any) -> T:
    """What `read` makes of the answer.

    Raises:
        NotTheApi: The answer does not have the shape that the API documents.
    """
    try:
        return read(answer)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _odd(endpoint, what) from error


def _odd(endpoint: str, what: str) -> NotTheApi:
    return not_the_api(endpoint, f"its answer to {what} has another shape than the API documents")


def flag(value: object) -> bool:
    """PVE's booleans come as 1, "1", true or not at all."""
    return value in (1, "1", True, "true", "yes", "on")


def words(text: object) -> tuple[str, ...]:
    """A list that PVE writes as one string, separated by comma, semicolon or space; sorted."""
    return tuple(sorted(str(text or "").replace(",", " ").replace(";", " ").split()))


def release(answer: Mapping[str, Any]) -> Release:
    """`GET /version`."""
    return Release(str(answer["version"]))


def guests(answer: list[Mapping[str, Any]]) -> tuple[GuestEntry, ...]:
    """`GET /cluster/resources?type=vm`, by VMID."""
    entries = (
        GuestEntry(
            vmid=int(item["vmid"]),
            name=str(item.get("name") or ""),
            node=str(item["node"]),
            kind="lxc" if item["type"] == "lxc" else "qemu",
            status=str(item.get("status") or "unknown"),
            pool=str(item.get("pool") or ""),
            tags=words(item.get("tags")),
            template=flag(item.get("template")),
            lock=str(item.get("lock") or ""),
        )
        for item in answer
        if item["type"] in ("qemu", "lxc")
    )
    return tuple(sorted(entries, key=lambda guest: guest.vmid))


def nodes(answer: list[Mapping[str, Any]]) -> tuple[Node, ...]:
    """`GET /nodes`."""
    return tuple(sorted((Node(str(item["node"]), item.get("status") == "online") for item in answer), key=lambda node: node.name))


def datastores(answer: list[Mapping[str, Any]]) -> tuple[Datastore, ...]:
    """`GET /nodes/NODE/storage`."""
    found = (
        Datastore(
            name=str(item["storage"]),
            kind=str(item["type"]),
            content=frozenset(words(item.get("content"))),
            total_bytes=int(item.get("total") or 0),
            free_bytes=int(item.get("avail") or 0),
            active=flag(item.get("active", 1)) and flag(item.get("enabled", 1)),
        )
        for item in answer
    )
    return tuple(sorted(found, key=lambda store: store.name))


def bridges(answer: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """`GET /nodes/NODE/network`: the names of what a guest can be plugged into."""
    return tuple(sorted(str(item["iface"]) for item in answer if item.get("type") in BRIDGE_KINDS))


def permissions(answer: Mapping[str, Mapping[str, Any]]) -> Permissions:
    """`GET /access/permissions`."""
    return Permissions({str(path): {str(name): flag(passed) for name, passed in held.items()} for path, held in answer.items()})


def volumes(answer: list[Mapping[str, Any]]) -> tuple[Volume, ...]:
    """`GET /nodes/NODE/storage/DATASTORE/content`."""
    found = (
        Volume(
            volid=str(item["volid"]),
            content=str(item.get("content") or ""),
            format=str(item.get("format") or ""),
            size_bytes=int(item.get("size") or 0),
            vmid=int(item.get("vmid") or 0),
        )
        for item in answer
    )
    return tuple(sorted(found, key=lambda volume: volume.volid))


def pools(answer: list[Mapping[str, Any]]) -> tuple[Pool, ...]:
    """`GET /pools`."""
    return tuple(
        sorted((Pool(str(item["poolid"]), str(item.get("comment") or "")) for item in answer), key=lambda pool: pool.name)
    )


def firewall_rules(answer: list[Mapping[str, Any]]) -> tuple[FirewallRule, ...]:
    """`GET /nodes/NODE/qemu/VMID/firewall/rules`."""
    return tuple(
        FirewallRule(str(item["type"]), str(item["action"]), str(item.get("dport") or ""), str(item.get("comment") or "").strip())
        for item in answer
    )


def options(answer: list[Mapping[str, Any]]) -> tuple[Option, ...]:
    """`GET /nodes/NODE/qemu/VMID/pending`."""
    return tuple(
        Option(
            name=str(item["key"]),
            value=_text(item.get("value")),
            pending=_text(item.get("pending")),
            removed=bool(int(item.get("delete") or 0)),
        )
        for item in answer
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def pci_mappings(answer: list[Mapping[str, Any]]) -> tuple[PciMapping, ...]:
    """`GET /cluster/mapping/pci?check-node=NODE`."""
    found = (
        PciMapping(str(item["id"]), "; ".join(str(check["message"]).strip() for check in item.get("checks") or ()))
        for item in answer
    )
    return tuple(sorted(found, key=lambda mapping: mapping.name))


def accounts(answer: list[Mapping[str, Any]]) -> tuple[Account, ...]:
    """`GET /access/users?full=1`."""
    found = (
        Account(
            name=str(item["userid"]),
            enabled=flag(item.get("enable", 1)),
            expires_s=int(item.get("expire") or 0),
            tokens=tuple(ApiToken(str(one["tokenid"]), int(one.get("expire") or 0)) for one in item.get("tokens") or ()),
        )
        for item in answer
    )
    return tuple(sorted(found, key=lambda account: account.name))


def grants(answer: list[Mapping[str, Any]]) -> tuple[Grant, ...]:
    """`GET /access/acl`."""
    return tuple(Grant(str(item["path"]), str(item["type"]), str(item["ugid"]), str(item["roleid"])) for item in answer)


def roles(answer: list[Mapping[str, Any]]) -> Mapping[str, frozenset[str]]:
    """`GET /access/roles`."""
    return {str(item["roleid"]): frozenset(words(item.get("privs"))) for item in answer}


def status(answer: Mapping[str, Any]) -> GuestStatus:
    """`GET /nodes/NODE/qemu/VMID/status/current`."""
    return GuestStatus(int(answer["vmid"]), str(answer["status"]), int(answer.get("uptime") or 0), str(answer.get("lock") or ""))


def log_lines(answer: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """`GET /nodes/NODE/tasks/UPID/log`."""
    return tuple(str(item.get("t") or "") for item in answer)


def interfaces(answer: Mapping[str, Any]) -> tuple[Interface, ...]:
    """Agent call `network-get-interfaces`."""
    found = []
    for item in answer["result"]:
        listed = item.get("ip-addresses") or []
        ordered = sorted(listed, key=lambda address: address["ip-address-type"] != "ipv4")
        found.append(Interface(str(item["name"]), tuple(str(address["ip-address"]) for address in ordered)))
    return tuple(found)


def file_bytes(text: str) -> bytes:
    """The bytes behind a text of the agent.

    PVE decodes what the agent sends from base64 and passes each byte on as the character with that number (qemu-server,
    `PVE/API2/Qemu/Agent.pm`). A text with characters above 255 was decoded as UTF-8 on its way.
    """
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8")


def agent_text(text: str) -> str:
    """Output of a command, decoded as UTF-8 where it is."""
    try:
        return file_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        return text
