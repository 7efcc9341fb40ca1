"""Which differences are no drift, and how much the others matter. Two tables; docs/drift.md has them for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from labctl.model.drift.finding import Kind, Severity

VM = "proxmox_virtual_environment_vm"
FILE = "proxmox_virtual_environment_file"
POOL = "proxmox_virtual_environment_pool"
COMPOSE = "labctl_compose_project"
_INDEX = re.compile(r"\[\d+\]")


class When(StrEnum):
    """When a noise rule holds."""

    ALWAYS = "always"
    EMPTY = 'they differ only in what is empty: null, [], {} and ""'
    ORDER = "the same in another order"


@dataclass(frozen=True, slots=True)
class Noise:
    """A difference that means nothing.

    Attributes:
        name: The rule's name.
        type: Pattern of the resource type.
        path: Pattern of the attribute's path, without indexes.
        when: When it holds.
        why: Why it means nothing.
    """

    name: str
    type: str
    path: str
    when: When
    why: str


NOISE: tuple[Noise, ...] = (
    Noise(
        "pool-members",
        POOL,
        "members",
        When.ALWAYS,
        "a pool's members are said by the guests; the state has those of its creation",
    ),
    Noise("agent-ipv4", VM, "ipv4_addresses", When.ALWAYS, "the agent tells addresses, and they come and go"),
    Noise("agent-ipv6", VM, "ipv6_addresses", When.ALWAYS, "the agent tells addresses, and they come and go"),
    Noise("agent-interfaces", VM, "network_interface_names", When.ALWAYS, "the agent tells interfaces, and containers add some"),
    Noise("agent-macs", VM, "mac_addresses", When.ALWAYS, "read from the interfaces that the agent tells"),
    Noise("null-and-empty", "*", "*", When.EMPTY, "the provider reads back [] where nothing was set (cpu.flags, dns.servers)"),
    Noise("tag-order", VM, "tags", When.ORDER, "Proxmox VE sorts tags"),
    Noise("cpu-flag-order", VM, "cpu.flags", When.ORDER, "the order of flags means nothing"),
    Noise("network-order", COMPOSE, "*networks", When.ORDER, "the engine lists networks in any order"),
)
"""Source: bpg/proxmox 0.111.1 against the sandbox, measured."""


@dataclass(frozen=True, slots=True)
class Weight:
    """How much a difference matters. `type` and `path` are patterns, the path without indexes; the first that fits counts."""

    type: str
    path: str
    severity: Severity


WEIGHTS: tuple[Weight, ...] = (
    Weight(VM, "disk*", Severity.HIGH),
    Weight(VM, "network_device*", Severity.HIGH),
    Weight(VM, "initialization*", Severity.HIGH),
    Weight(VM, "node_name", Severity.HIGH),
    Weight(VM, "tags", Severity.LOW),
    Weight(VM, "description", Severity.LOW),
    Weight(VM, "name", Severity.LOW),
    Weight(POOL, "comment", Severity.LOW),
    Weight("proxmox_virtual_environment_firewall_*", "*", Severity.HIGH),
    Weight("proxmox_virtual_environment_cluster_firewall*", "*", Severity.HIGH),
    Weight(FILE, "*", Severity.HIGH),
    Weight(COMPOSE, "*networks", Severity.HIGH),
)
GONE: tuple[tuple[str, Severity], ...] = (
    (POOL, Severity.MEDIUM),
    (COMPOSE, Severity.HIGH),
    ("*", Severity.HIGH),
)
"""How much it matters that a resource of this type is gone."""


RESOLVED: tuple[tuple[str, str], ...] = ((COMPOSE, "services.*.image_id"), (COMPOSE, "services.*.digest"))
"""By type and pattern of the path: what the world makes of the code's words. An image's name may come to mean another one."""


def resolved(type_: str, path: str) -> bool:
    """Whether the wanted value comes from outside of the code: where nothing else differs, it was changed there."""
    return any(fnmatchcase(type_, one) and fnmatchcase(path, pattern) for one, pattern in RESOLVED)


def noise(type_: str, path: str, before: Any, after: Any, *, known: bool = True) -> Noise | None:
    """The rule by which a difference means nothing, None where it means something.

    Args:
        type_: The resource's type.
        path: The attribute.
        before: Its value on one side.
        after: Its value on the other.
        known: Whether the values are these: one that is masked or not known yet cannot be compared.
    """
    plain = _INDEX.sub("", path)
    return next(
        (
            rule
            for rule in NOISE
            if fnmatchcase(type_, rule.type)
            and fnmatchcase(plain, rule.path)
            and (_holds(rule.when, before, after) if known else rule.when is When.ALWAYS)
        ),
        None,
    )


def severity(kind: Kind, type_: str, path: str = "") -> Severity:
    """How much it matters that an attribute differs, or that all of it is gone. Of what is only pending or hidden, little."""
    if kind in (Kind.PENDING, Kind.HIDDEN):
        return Severity.LOW
    if kind is Kind.MISSING:
        return next(weight for pattern, weight in GONE if fnmatchcase(type_, pattern))
    plain = _INDEX.sub("", path)
    fitting = (one.severity for one in WEIGHTS if fnmatchcase(type_, one.type) and fnmatchcase(plain, one.path))
    return next(fitting, Severity.MEDIUM)


def worst(found: tuple[Severity, ...]) -> Severity:
    """The one that matters most; medium for none."""
    order = (Severity.HIGH, Severity.MEDIUM, Severity.LOW)
    return min(found, key=order.index, default=Severity.MEDIUM)


def _holds(when: When, before: Any, after: Any) -> bool:
    if when is When.ALWAYS:
        return True
    if when is When.EMPTY:
        return bool(_filled(before) == _filled(after))
    both = isinstance(before, list) and isinstance(after, list)
    return both and sorted(map(str, before)) == sorted(map(str, after))


def _filled(value: Any) -> Any:
    """The value without what is empty in it; None where nothing is left."""
    if isinstance(value, Mapping):
        return {key: kept for key, one in value.items() if (kept := _filled(one)) is not None} or None
    if isinstance(value, list):
        return [_filled(one) for one in value] or None
    return None if value == "" else value
