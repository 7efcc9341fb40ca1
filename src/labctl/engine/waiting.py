"""Before a run: a Terraform that outlived its labctl is waited for."""

from __future__ import annotations

import time

from labctl.adapters.terraform import RECORD_NAME, running_child
from labctl.engine.run import Run

POLL_S = 0.5


def wait_for_earlier(run: Run) -> None:
    """Waits until a Terraform that outlived its labctl has ended: it finishes its work and writes its state.

    Raises:
        Interrupted: A signal came; the earlier Terraform goes on.
    """
    for stack in run.stacks:
        told = False
        while (child := running_child(stack.stack.folder / RECORD_NAME)) is not None:
            if not told:
                run.say(
                    f"waiting for the Terraform of an earlier run to end ({child.command}, process {child.pid})",
                    stack.name,
                    kind="warning",
                )
                told = True
            run.interrupts.check()
            time.sleep(POLL_S)
