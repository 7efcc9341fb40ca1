"""A failed Terraform command as an error that names stack, resource and remedy."""

from __future__ import annotations

import signal

from labctl.adapters.terraform.diagnostics import Diagnostic, LockInfo, lock_info
from labctl.adapters.terraform.elsewhere import hint_elsewhere
from labctl.adapters.terraform.remedies import explain, weightiest
from labctl.adapters.terraform.result import CommandResult
from labctl.model.errors import AdapterError

_DETAIL = 600
_WANT_INIT = frozenset(
    {
        'Backend initialization required, please run "terraform init"',
        'Backend initialization required: please run "terraform init"',
        "Required plugins are not installed",
        "Inconsistent dependency lock file",
        "Module not installed",
        "Missing required provider",
    }
)
"""Source: hashicorp/terraform, internal/command/meta_backend.go, meta_providers.go, internal/configs/configload."""
_NO_REMEDY = "What was made is in the state: mend the cause, then run the command again to go on."


class TerraformError(AdapterError):
    """A Terraform command failed.

    Args:
        stack: The stack that it was run for.
        result: How it ended.
        lab: Whether the stack is a lab's. What helps there does not help elsewhere.

    Attributes:
        result: As given; `result.errors` are all errors, the first in weight is in the message.
        rule: The id of the rule that explained it, "" when none did.
        lock: Who holds the state, when that is what is wrong.
    """

    def __init__(self, stack: str, result: CommandResult, *, lab: bool = True) -> None:
        first = weightiest(result.diagnostics) or _silent(result)
        remedy = explain(first, stack)
        others = len({error.text for error in result.errors if error.summary != "execution halted"}) - 1
        more = f" (and {others} more)" if others > 0 else ""
        lock = lock_info(first.detail) if remedy and remedy.rule == "state-locked" else None
        if remedy:
            sentence, hint = remedy.sentence, remedy.hint if lab else hint_elsewhere(remedy, lock.id if lock else "ID")
        elif first.is_own:
            sentence, hint = first.summary, first.detail or _NO_REMEDY
        else:
            sentence, hint = _own_words(first), _NO_REMEDY
        super().__init__(
            f"{sentence}{more}",
            hint=hint,
            where=": ".join(part for part in (stack, first.address) if part),
        )
        self.stack = stack
        self.result = result
        self.diagnostic = first
        self.rule = remedy.rule if remedy else ""
        self.lock: LockInfo | None = lock

    @property
    def wants_init(self) -> bool:
        """Whether `init` would mend it."""
        return any(error.summary in _WANT_INIT for error in self.result.errors)


class TerraformCancelled(TerraformError):
    """A Terraform command was interrupted; what it had made is in the state."""

    def __init__(self, stack: str, result: CommandResult, *, lab: bool = True) -> None:
        super().__init__(stack, result, lab=lab)
        done = result.exit_code == 0
        self.message = "Terraform was interrupted, " + (
            "after it was done." if done else "finished what it had begun and kept its state."
        )
        self.hint = "Run the command again to go on."
        self.where = stack
        self.rule = "interrupted"


def _own_words(diagnostic: Diagnostic) -> str:
    place = f" ({diagnostic.file} line {diagnostic.line})" if diagnostic.file and not diagnostic.address else ""
    detail = diagnostic.detail if len(diagnostic.detail) <= _DETAIL else f"{diagnostic.detail[:_DETAIL]} …"
    return f"{diagnostic.summary}{place}" + (f": {detail}" if detail else "")


def _silent(result: CommandResult) -> Diagnostic:
    """For a command that failed without a diagnostic: killed, or unable to write what it had to say."""
    command = next((part for part in result.argv[1:] if part.isalpha()), "terraform")
    if result.exit_code < 0:
        return Diagnostic("error", f"`{command}` was killed by {signal.Signals(-result.exit_code).name}", result.stderr_tail)
    return Diagnostic("error", f"`{command}` ended with exit code {result.exit_code} and gave no reason", result.stderr_tail)
