"""`make bench`: labctl against the raw terraform processes, both in one run.

    python -m bench            every workload
    python -m bench a c --runs 9

Prints medians. A ratio is the median of the ratios of each round, in which both sides ran alternately on the same machine;
seconds alone do not travel. On a machine that others use at the same time, whoever runs more processes at once gets more of it:
the seconds of processor time tell what was really spent.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.samples import CPU, Samples
from bench.workloads import WORKLOADS

LAB, SERVICES, INVENTORY = "e", "f", "g"
TITLES = {
    LAB: "a lab on the sandbox",
    SERVICES: "six Compose projects",
    INVENTORY: "a drift check's inventory: 5,000 guests, 20,000 volumes",
}
RESULTS = Path(__file__).parents[1] / ".cache" / "bench.json"


@dataclass(frozen=True)
class Line:
    """A line of the table: a series, what it is held against, and the most that it may take of that."""

    series: str
    base: str = ""
    target: float | None = None


NO_OP = (Line("raw plan with init"), Line("raw plan"), Line("bound", "raw plan"))
LINES = {
    "a": (
        *NO_OP,
        Line("no-op plan", "raw plan", 0.75),
        Line("no-op up", "raw plan", 0.75),
        Line("raw first apply"),
        Line("first up", "raw first apply", 1.0),
    ),
    "b": (
        *NO_OP,
        Line("no-op plan", "bound", 1.10),
        Line("no-op up", "bound", 1.10),
        Line("raw first apply"),
        Line("first up", "raw first apply"),
    ),
    "c": (
        *NO_OP,
        Line("no-op plan", "bound", 1.25),
        Line("no-op up", "bound", 1.25),
        Line("raw first apply"),
        Line("raw first apply by rank", "raw first apply"),
        Line("first up", "raw first apply by rank", 1.0),
    ),
    "d": (
        *NO_OP,
        # Own share: (labctl - raw) / labctl <= 10 % is labctl / raw <= 1 / 0.9.
        Line("no-op plan", "raw plan", 1 / 0.9),
        Line("no-op up", "raw plan", 1 / 0.9),
    ),
    "e": (Line("raw plan"), Line("no-op plan", "raw plan"), Line("no-op up", "raw plan"), Line("first up"), Line("help")),
    "f": (
        Line("six terraform_data"),
        Line("six projects", "six terraform_data"),
        Line("six projects, re-attached", "six terraform_data"),
        Line("drift check, re-attached", "six terraform_data"),
    ),
    "g": (Line("read and join"), Line("join"), Line("join, all strangers"), Line("join, all missing")),
}
MEMORY = ("memory", "memory in the first up")
MEMORY_MIB = 100


def main() -> int:
    """Measures and prints; exit code 1 where something that is measured does not work."""
    options = _options()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results: dict[str, dict[str, list[float]]] = {}
    print(f"medians of {options.runs} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n", flush=True)
    for workload in options.workloads or (*WORKLOADS, *TITLES):
        samples = _measure(workload, options.runs)
        results[workload] = samples.series
        _show(workload, samples)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measures labctl against the raw terraform processes.")
    parser.add_argument(
        "workloads", nargs="*", choices=[*WORKLOADS, *TITLES, []], metavar="WORKLOAD", help="a to g; all by default"
    )
    parser.add_argument("--runs", type=int, default=9, metavar="N", help="rounds; 9 by default")
    return parser.parse_args()


def _measure(workload: str, runs: int) -> Samples:
    if workload == LAB:
        from bench.lab import measure_lab

        return measure_lab(runs)
    if workload == SERVICES:
        from bench.services import measure_services

        return measure_services(runs)
    if workload == INVENTORY:
        from bench.inventory import measure_inventory

        return measure_inventory(runs)
    from bench.projects import measure_project

    return measure_project(WORKLOADS[workload], runs)


def _show(workload: str, samples: Samples) -> None:
    """One workload's part of the table."""
    title = TITLES.get(workload) or WORKLOADS[workload].title
    print(f"({workload}) {title}")
    print("| what | wall s | ratio | target | CPU s | ratio |\n|---|---|---|---|---|---|")
    for line in LINES[workload]:
        wall, cpu = (samples.median(f"{kind}{line.series}") for kind in ("", CPU))
        ratio, cpu_ratio = (
            f"{samples.ratio(kind + line.series, kind + line.base):.2f} x {line.base}" if line.base else "" for kind in ("", CPU)
        )
        target = f"≤ {line.target:.2f}" if line.target else ""
        print(f"| {line.series} | {wall:.3f} | {ratio} | {target} | {cpu:.2f} | {cpu_ratio} |")
    for name in MEMORY:
        if name in samples.series:
            print(f"| own {name}, peak, MiB | {samples.median(name):.0f} | | ≤ {MEMORY_MIB} | | |")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
