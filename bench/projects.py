"""Workloads (a) to (d): labctl on a generated project, against shell loops over the same folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.samples import Samples
from bench.watch import run_watched
from bench.workloads import Shape, stack_folder, write_project, write_states

LABCTL = str(Path(sys.executable).parent / "labctl")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
    "CHECKPOINT_DISABLE": "1"
}

PLAN = 'terraform -chdir="$s" plan -input=false -no-color -detailed-exitcode'
INIT = 'terraform -chdir="$s" init -input=false -no-color'
APPLY = 'terraform -chdir="$s" apply -input=false -no-color -auto-approve'
MANY_RESOURCES = 1000
AT_ONCE = 2
"""How many processes the bare bound runs at a time."""


def measure_project(shape: Shape, runs: int) -> Samples:
    """Measures one workload `runs` times, all that is compared in each round.

    The stacks are synthesised beforehand, for both sides. A first apply starts without states and without `.terraform`.
    """
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as place:
        folder = Path(place)
        write_project(shape, folder)
        if shape.resources > MANY_RESOURCES:
            write_states(shape, folder)
        _labctl(folder, "plan")
        # The first round warms the machine up and is not counted.
        for counted in range(runs + 1):
            taken = samples if counted else Samples()
            if shape.resources <= MANY_RESOURCES:
                _first_apply(shape, folder, taken)
            _no_op(shape, folder, taken)
    return samples


def _first_apply(shape: Shape, folder: Path, samples: Samples) -> None:
    _forget(folder)
    samples.time("raw first apply", lambda: _loop(f"{INIT} && {APPLY}", folder, shape.stacks))
    if len(shape.ranks) > 1 and len(shape.ranks[0]) > 1:
        _forget(folder)
        samples.time("raw first apply by rank", lambda: [_at_once(f"{INIT} && {APPLY}", folder, rank) for rank in shape.ranks])
    _forget(folder)
    samples.time("first up", lambda: samples.add("memory in the first up", _labctl(folder, "up", "--yes")))


def _no_op(shape: Shape, folder: Path, samples: Samples) -> None:
    samples.time("raw plan with init", lambda: _loop(f"{INIT} && {PLAN}", folder, shape.stacks))
    samples.time("raw plan", lambda: _loop(PLAN, folder, shape.stacks))
    samples.time("no-op plan", lambda: _labctl(folder, "plan", "--detailed-exitcode"))
    samples.time("bound", lambda: _at_once(PLAN, folder, shape.stacks))
    samples.time("no-op up", lambda: samples.add("memory", _labctl(folder, "up", "--yes")))


def _labctl(folder: Path, *args: str) -> float:
    """Runs labctl; returns its own peak of memory in MiB."""
    return run_watched([LABCTL, *args, "--app", "."], folder, ENVIRONMENT)


def _loop(command: str, folder: Path, stacks: tuple[str, ...]) -> None:
    """The command in each stack's folder, one after the other."""
    _shell(f'set -e; for s in "$@"; do {command}; done', folder, stacks)


def _at_once(command: str, folder: Path, stacks: tuple[str, ...]) -> None:
    """The command in each stack's folder, `AT_ONCE` at a time."""
    _shell(f"printf '%s\\n' \"$@\" | xargs -P {AT_ONCE} -n 1 sh -c 's=$0; {command}'", folder, stacks)


def _shell(script: str, folder: Path, stacks: tuple[str, ...]) -> None:
    folders = [str(stack_folder(folder, stack)) for stack in stacks]
    done = subprocess.run(
        ["/bin/sh", "-c", script, "loop", *folders],
        env=ENVIRONMENT,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"`{script}` ended with {done.returncode}: {done.stderr[-2000:]}")


def _forget(folder: Path) -> None:
    """Takes away all that `init` and `apply` made; the synthesised JSON stays."""
    for path in (*folder.glob("*.tfstate*"), *folder.glob(f"{stack_folder(folder, '*').relative_to(folder)}/.terraform*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
