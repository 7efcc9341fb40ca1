"""`make bench`: labctl against the raw terraform processes, in one run, on a lab of its own.

Prints medians and ratios. A ratio compares two things measured alternately on the same machine; seconds alone do not travel.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.watch import run_watched

ROOT = Path(__file__).parents[1]
LABCTL = str(Path(sys.executable).parent / "labctl")
RUNS = int(os.environ.get("BENCH_RUNS", "9"))
STACKS = ("foundation", "platform")
NETWORK = "127.86.250.0/24"


def main() -> int:
    """Measures and prints; exit code 1 where something that is measured does not work."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as folder:
        lab = Path(folder)
        (lab / "lab.yaml").write_text(f"name: bench\ntarget: {{sandbox: {{network: {NETWORK}}}}}\n")
        os.environ.setdefault("LABCTL_MIRROR", str(ROOT / ".cache" / "labctl" / "mirror"))
        try:
            labctl(lab, "mirror")
            first = timed(lambda: labctl(lab, "up", "--yes"))
            results = measure(lab) | {"first_up_s": round(first, 2)}
        finally:
            labctl(lab, "sandbox", "reset", "--yes")
    show(results)
    (ROOT / ".cache" / "bench.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


def labctl(lab: Path, *args: str) -> None:
    """Runs labctl; raises where it fails."""
    subprocess.run([LABCTL, *args], cwd=lab, check=True, stdout=subprocess.DEVNULL)


def timed(action: Callable[[], object]) -> float:
    """Wall seconds."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(lab: Path) -> dict[str, float]:
    """Each thing `RUNS` times, alternately; medians."""
    raw_plan = [LABCTL, "env", "--", sys.executable, "-m", "bench.raw", *(str(lab / ".labctl/bench/stacks" / s) for s in STACKS)]
    series: dict[str, list[float]] = {"noop_up_s": [], "noop_plan_s": [], "raw_plans_s": [], "help_s": [], "memory_mib": []}
    for _ in range(RUNS):
        up = run_watched([LABCTL, "up", "--yes"], lab)
        series["noop_up_s"].append(up.seconds)
        series["memory_mib"].append(up.peak_mib)
        series["noop_plan_s"].append(run_watched([LABCTL, "plan"], lab).seconds)
        done = subprocess.run(
            raw_plan, cwd=lab, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        series["raw_plans_s"].append(float(done.stdout))
        series["help_s"].append(timed(lambda: labctl(lab, "--help")))
    return {name: round(statistics.median(values), 3) for name, values in series.items()}


def show(results: dict[str, float]) -> None:
    """A table, with the ratios that count."""
    raw, plan, up = results["raw_plans_s"], results["noop_plan_s"], results["noop_up_s"]
    print(f"median of {RUNS} runs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"raw `terraform plan` of both folders in sequence   {raw:7.2f} s")
    print(f"no-op `labctl plan`                                {plan:7.2f} s   {plan / raw:.2f} x raw")
    print(f"no-op `labctl up`                                  {up:7.2f} s   {up / raw:.2f} x raw")
    print(f"first `labctl up`, provider in the mirror          {results['first_up_s']:7.2f} s")
    print(f"`labctl --help`                                    {results['help_s'] * 1000:7.0f} ms")
    print(f"labctl's own memory in a no-op up, peak            {results['memory_mib']:7.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
