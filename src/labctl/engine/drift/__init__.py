"""A check for drift: every stack against world and code by one plan each, and the world beside the states by its areas.

It only reads. No state is changed or locked, nothing is started, no key is made, and what cannot be looked at is an `error`,
never clean. `check` runs it, `history` and `accepting` keep what it found and what is let be, `fix` applies one resource again.
"""

from labctl.engine.drift.check import check, check_lab

__all__ = ["check", "check_lab"]
