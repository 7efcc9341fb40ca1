"""Runs `init` of stacks ahead of their turn: unlike a plan or an apply, it does not wait for the stacks that are read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from labctl.engine.run import Run, StackRun
from labctl.engine.workspace import terraform
from labctl.model.errors import LabError

_AT_ONCE = 2
"""Beside the stacks whose turn it is. More would only take the processor from these."""


def initialise_ahead(run: Run, stack: StackRun) -> None:
    """Initialises the stack where that is needed and can be done now. Where it fails, it is done again, and told, in its turn."""
    if run.inits_ahead and not run.interrupts.count:
        with suppress(LabError):
            terraform(run, stack)


@contextmanager
def initialising(run: Run, stacks: Sequence[StackRun]) -> Iterator[None]:
    """Initialises the stacks, in order, while the block runs; at its end, none is begun any more.

    With a parallelism of 1 each waits for its turn: somebody wants one Terraform at a time.
    """
    if run.parallelism < 2 or not run.inits_ahead:
        yield
        return
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="init")
    try:
        for stack in stacks:
            pool.submit(initialise_ahead, run, stack)
        yield
    finally:
        pool.shutdown(cancel_futures=True)
