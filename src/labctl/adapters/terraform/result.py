"""How one Terraform command ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from labctl.adapters.terraform.diagnostics import Diagnostic
from labctl.adapters.terraform.events import ChangeSummary, Event


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How one Terraform command ended.

    Attributes:
        argv: The whole command line.
        exit_code: Terraform's; negative is the signal that killed it.
        events: Its JSON events in order, for the commands that write them.
        diagnostics: Errors and warnings, from events and from stderr.
        stdout: The document that it wrote, for commands without events. May hold sensitive values.
        stderr_tail: The end of its stderr, without colours.
        seconds: How long it ran.
        cancelled: Whether it was interrupted.
    """

    argv: tuple[str, ...]
    exit_code: int
    events: tuple[Event, ...] = field(default=(), repr=False)
    diagnostics: tuple[Diagnostic, ...] = ()
    stdout: str = field(default="", repr=False)
    stderr_tail: str = field(default="", repr=False)
    seconds: float = 0.0
    cancelled: bool = False

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that are errors."""
        return tuple(diagnostic for diagnostic in self.diagnostics if diagnostic.is_error)

    @property
    def totals(self) -> ChangeSummary | None:
        """How many resources the command added, changed and destroyed, None where it does not say."""
        return next((event for event in reversed(self.events) if isinstance(event, ChangeSummary)), None)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that are not."""
        return tuple(diagnostic for diagnostic in self.diagnostics if not diagnostic.is_error)
