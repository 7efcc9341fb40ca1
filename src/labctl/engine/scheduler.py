"""Runs stacks as a `Schedule` allows, several at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from labctl.model.schedule import Schedule

_STACK_MIB = 400
"""What a Terraform with its provider may take: 1,000 resources measured with bpg/proxmox, rounded up."""


def default_parallelism() -> int:
    """How many stacks at once: two for each processor, as far as the free memory goes, at least two."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(2 * processors, _free_mib() // _STACK_MIB))


def _free_mib() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 8 * _STACK_MIB
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), "0")
    return int(found) // 1024


def run_schedule(schedule: Schedule, work: Callable[[str], bool], stopped: Callable[[], bool]) -> None:
    """Calls `work(name)`, which says whether the stack ended well, until nothing more may start.

    A stack that runs by itself runs on the calling thread, where a wait can be cut off by a signal; several run on threads of
    their own. An exception of `work` halts the schedule, and is raised when all that ran has ended.

    Args:
        schedule: What may start when.
        work: Does one stack.
        stopped: Asked before each start; True halts the schedule.
    """
    ended: SimpleQueue[tuple[str, bool, BaseException | None]] = SimpleQueue()
    failure: BaseException | None = None

    def on_thread(name: str) -> None:
        try:
            ended.put((name, work(name), None))
        except BaseException as error:  # noqa: BLE001 - handed to the calling thread, which raises it
            ended.put((name, False, error))

    while True:
        if stopped():
            schedule.halt()
        ready = schedule.startable()
        if len(ready) == 1 and not schedule.running:
            schedule.begin(ready[0])
            schedule.end(ready[0], well=work(ready[0]))
            continue
        for name in ready:
            schedule.begin(name)
            threading.Thread(target=on_thread, args=(name,), name=f"stack-{name}", daemon=True).start()
        if not schedule.running:
            break
        name, well, error = ended.get()
        schedule.end(name, well=well)
        if error is not None:
            failure = failure or error
            schedule.halt()
    if failure is not None:
        raise failure
