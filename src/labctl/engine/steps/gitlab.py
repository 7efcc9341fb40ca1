"""Step: GitLab is set up and its runner registered."""

from __future__ import annotations

from labctl.engine.labrun import LabRun
from labctl.model.contracts import PlatformContract


def gitlab_steps(run: LabRun, contract: PlatformContract) -> list[str]:  # noqa: ARG001 - to be filled
    """Runs the steps; returns what they changed, a line each."""
    return []
