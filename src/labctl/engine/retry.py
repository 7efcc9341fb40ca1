"""What passes by itself is tried again, a few times, and said. What changes something only after a fresh plan."""

from __future__ import annotations

import time

from labctl.adapters.terraform import TerraformCancelled, TerraformError, passing_faults
from labctl.engine.run import Run, StackRun
from labctl.model.errors import LabError

PAUSES_S = (2.0, 5.0)
"""Between the first try and the second, the second and the third. There is no fourth."""
_STEP_S = 0.1


def pass_by_itself(run: Run, stack: StackRun, error: LabError, tries: int) -> bool:
    """Whether to try again, after saying so and a pause.

    Args:
        run: The run.
        stack: The stack that failed.
        error: How.
        tries: How often it was tried.
    """
    if not isinstance(error, TerraformError) or isinstance(error, TerraformCancelled):
        return False
    faults = passing_faults(error.result.diagnostics)
    if tries > len(PAUSES_S) or not faults or run.interrupts.count:
        return False
    pause_s = PAUSES_S[tries - 1]
    text = f"{faults[0].words} ({faults[0].why}): trying again in {pause_s:.0f} s"
    run.say(text, stack.name, kind="warning")
    until = time.monotonic() + pause_s
    while time.monotonic() < until:
        run.interrupts.check()
        time.sleep(_STEP_S)
    return True
