"""Workload (f): six Compose projects on the machine's own Docker engine, against six `terraform_data`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench.samples import Samples
from labctl.adapters.terraform import (
    PROGRAM_VARIABLE,
    REATTACH_VARIABLE,
    RunningProvider,
    ensure_launcher,
    own_program,
    write_cli_config,
    write_lock_file,
)
from tests.dockercompose import clear, create_image, docker, programs
from tests.ownprovider import IDLE, TYPE, Stack

PROJECTS = 6
IMAGE = next(line.split()[-1] for line in IDLE.splitlines() if "image:" in line)


def measure_services(runs: int) -> Samples:
    """Brings six projects of one container each up, measures each thing `runs` times, alternately, and takes them away again."""
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as place:
        folder = Path(place)
        (folder / "home").mkdir()
        base = {"PATH": f"{programs()}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder / "home"), "CHECKPOINT_DISABLE": "1"}
        create_image()
        raw, own, running = _raw(folder, base), _own(folder, base), RunningProvider(base)
        attached = {**base, REATTACH_VARIABLE: running.reattach}
        try:
            own.apply(**attached)
            # The first round warms the machine up and is not counted.
            for counted in range(runs + 1):
                _measure_once(raw, own, attached, samples if counted else Samples())
        finally:
            running.close()
            for number in range(PROJECTS):
                clear(f"{own.name}-{number}")
            docker("rmi", "-f", IMAGE)
    return samples


def _measure_once(raw: Stack, own: Stack, attached: dict[str, str], samples: Samples) -> None:
    samples.time("six terraform_data", raw.settled)
    samples.time("six projects", own.settled)
    samples.time("six projects, re-attached", lambda: own.run("plan", "-detailed-exitcode", **attached))
    samples.time("drift check, re-attached", lambda: own.run("plan", "-refresh-only", **attached))


def _raw(folder: Path, environment: dict[str, str]) -> Stack:
    stack = Stack(folder / "raw", "bench-raw", environment)
    named = ", ".join(f'"data{number}": {{"input": {number}}}' for number in range(PROJECTS))
    (stack.folder / "main.tf.json").write_text(f'{{"resource": {{"terraform_data": {{{named}}}}}}}')
    stack.run("init")
    stack.apply()
    return stack


def _own(folder: Path, environment: dict[str, str]) -> Stack:
    """Initialised as a lab does: the provider in a mirror, its lock file written."""
    entry = ensure_launcher(folder / "mirror")
    write_cli_config(folder / "terraformrc", folder / "mirror")
    started = {"TF_CLI_CONFIG_FILE": str(folder / "terraformrc"), PROGRAM_VARIABLE: own_program()}
    stack = Stack(folder / "own", "bench", {**environment, **started})
    projects = {
        f"project{number}": {"name": f"{stack.name}-{number}", "compose": IDLE, "wait_timeout": 60}
        for number in range(1, PROJECTS)
    }
    stack.write(IDLE, name=f"{stack.name}-0", resources={TYPE: projects})
    write_lock_file(stack.folder, [entry.lock_entry()])
    stack.run("init")
    return stack
