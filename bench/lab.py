"""Workload (e): the real lab on the sandbox, against the raw terraform processes with the lab's environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.samples import CPU, Samples
from bench.watch import run_watched

ROOT = Path(__file__).parents[1]
LABCTL = str(Path(sys.executable).parent / "labctl")
STACKS = ("foundation", "platform")
NETWORK = "127.86.250.0/24"


def measure_lab(runs: int) -> Samples:
    """Brings a lab of its own up on the sandbox, measures each thing `runs` times, alternately, and takes it away again."""
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as folder:
        lab = Path(folder)
        (lab / "lab.yaml").write_text(f"name: bench\ntarget: {{sandbox: {{guests: appliance, network: {NETWORK}}}}}\n")
        os.environ.setdefault("LABCTL_MIRROR", str(ROOT / ".cache" / "labctl" / "mirror"))
        try:
            _labctl(lab, "mirror")
            samples.time("first up", lambda: _labctl(lab, "up", "--yes"))
            for _ in range(runs):
                _measure_once(lab, samples)
        finally:
            _labctl(lab, "sandbox", "reset", "--yes")
    return samples


def _measure_once(lab: Path, samples: Samples) -> None:
    samples.time("no-op up", lambda: samples.add("memory", run_watched([LABCTL, "up", "--yes"], lab)))
    samples.time("no-op plan", lambda: _labctl(lab, "plan"))
    raw = [LABCTL, "env", "--", sys.executable, "-m", "bench.raw", *(str(lab / ".labctl/bench/stacks" / s) for s in STACKS)]
    done = subprocess.run(raw, cwd=lab, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    for name, figure in zip(("raw plan", f"{CPU}raw plan"), done.stdout.split(), strict=True):
        samples.add(name, float(figure))
    samples.time("help", lambda: _labctl(lab, "--help"))


def _labctl(lab: Path, *args: str) -> None:
    """Runs labctl; raises where it fails."""
    subprocess.run([LABCTL, *args], cwd=lab, check=True, stdout=subprocess.DEVNULL)
