"""Which model answers a key. Pure.

Each model draws a number from the key, and the smallest of them, divided by the weights, wins (weighted rendezvous hashing; an
exponential race). So a key keeps its model, also across servers and restarts; a model's share of many keys is its weight's; and
when weights change, or a model comes or goes, only those keys move that must: nobody is handed from A to B because of C.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Weighted(Protocol):
    """Something with a weight; its text is its identity."""

    @property
    def weight(self) -> float:
        """Its share, relative to the others'. Above 0."""


T = TypeVar("T", bound=Weighted)


def choose(choices: Iterable[T], key: str) -> T:
    """The one of `choices` that answers `key`; the order of the choices does not matter.

    Raises:
        ValueError: There is no choice.
    """
    return min(choices, key=lambda choice: (_draw(key, str(choice)) / choice.weight, str(choice)))


def _draw(key: str, name: str) -> float:
    """A number from 0 upwards, exponentially distributed over the keys."""
    digest = hashlib.sha256(f"{len(name)}:{name}{key}".encode()).digest()
    # 53 bits are what a float holds exactly; the half keeps it off both ends, where the logarithm has none.
    return -math.log(((int.from_bytes(digest[:8]) >> 11) + 0.5) / 2**53)
