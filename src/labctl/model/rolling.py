"""In which order the services of a Compose project are replaced one after the other. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from labctl.model.compose import ComposeState, differences


@dataclass(frozen=True, slots=True)
class Ties:
    """What of a service decides when it may be replaced.

    Attributes:
        after: The services that it depends on.
        ports: The ports of the host that it wants, as `8000/tcp`.
    """

    after: frozenset[str] = frozenset()
    ports: frozenset[str] = frozenset()


def changed(wanted: ComposeState, found: ComposeState) -> frozenset[str]:
    """The services that are not as wanted; what the file no longer has is none of them."""
    return frozenset(one.service for one in differences(wanted, found) if one.service in wanted.services)


def replacement_order(
    preferred: Sequence[str], services: Collection[str], ties: Mapping[str, Ties], held: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    """The services in the order in which they are replaced.

    That is the preferred one, but that a service comes after those of them which it depends on, and which hold a port that it
    wants. Where these go in a circle, the preferred order breaks it.

    Args:
        preferred: Names, the first ones first.
        services: What is to be replaced; those that `preferred` does not have come last.
        ties: By service.
        held: The ports of the host that each service has now.
    """
    left = [name for name in dict.fromkeys(preferred) if name in services]
    left += sorted(set(services) - set(left))
    order: list[str] = []
    while left:
        free = next((name for name in left if _before(name, ties, held).isdisjoint(left)), left[0])
        left.remove(free)
        order.append(free)
    return tuple(order)


def _before(name: str, ties: Mapping[str, Ties], held: Mapping[str, Collection[str]]) -> frozenset[str]:
    tie = ties.get(name, Ties())
    return tie.after.union(other for other, ports in held.items() if tie.ports & set(ports)) - {name}


def in_the_way(service: str, orphans: Iterable[str], ties: Mapping[str, Ties], held: Mapping[str, Collection[str]]) -> bool:
    """Whether a service that the file no longer has holds a port that this one wants."""
    return any(ties.get(service, Ties()).ports & set(held.get(orphan, ())) for orphan in orphans)


def held_ports(containers: Iterable[tuple[str, Iterable[str]]]) -> dict[str, frozenset[str]]:
    """The ports of each service, from those of its containers."""
    held: dict[str, frozenset[str]] = {}
    for service, ports in containers:
        held[service] = held.get(service, frozenset()) | frozenset(ports)
    return held
