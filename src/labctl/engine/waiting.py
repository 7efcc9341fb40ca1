"""Before a run: a Terraform that outlived its labctl is waited for, a provider that outlived its Terraform is ended."""

from __future__ import annotations

import time

from labctl.adapters.terraform import RECORD_NAME, end_orphans, running_child
from labctl.engine.run import Run

POLL_S = 0.5


def wait_for_earlier(run: Run) -> None:
    """Waits until a Terraform that outlived its labctl has ended: it finishes its work and writes its state.

    A provider that outlived its Terraform is ended: nobody would learn what it still makes.

    Raises:
        Interrupted: A signal came; the earlier Terraform goes on.
    """
    for record in sorted(run.work_folders.glob(f"*/{RECORD_NAME}")):
        told = False
        while (child := running_child(record)) is not None:
            if not told:
                run.say(
                    f"waiting for the Terraform of an earlier run to end ({child.command}, process {child.pid})",
                    record.parent.name,
                    kind="warning",
                )
                told = True
            run.interrupts.check()
            time.sleep(POLL_S)
    for pid in end_orphans(run.work_folders):
        run.say(f"ended a provider that had outlived its Terraform (process {pid})", kind="warning")
