"""What was measured: series of figures by name, and their medians."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

CPU = "cpu of "


def _cpu() -> float:
    """User and system seconds of all processes that were waited for, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Samples:
    """Series by name; those of one round stand at the same place, so that ratios are taken round by round."""

    def __init__(self) -> None:
        self.series: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Takes one figure."""
        self.series.setdefault(name, []).append(value)

    def time(self, name: str, action: Callable[[], object]) -> None:
        """Takes the wall seconds of an action, and the processor seconds of the processes that it started (`CPU` in front)."""
        began, cpu = time.perf_counter(), _cpu()
        action()
        self.add(name, time.perf_counter() - began)
        self.add(f"{CPU}{name}", _cpu() - cpu)

    def median(self, name: str) -> float:
        """The median of a series."""
        return statistics.median(self.series[name])

    def ratio(self, name: str, base: str) -> float:
        """The median of the ratios of one round: what slows the machine down for a while slows both down."""
        return statistics.median(one / other for one, other in zip(self.series[name], self.series[base], strict=True))
