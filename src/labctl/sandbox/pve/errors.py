"""How the emulated API says no."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """An answer with an HTTP status and PVE's sentence.

    Args:
        status: The HTTP status.
        message: What goes into the status line and into the field `message`.
        errors: For a status of 400: parameter names and what is wrong with each.
    """

    def __init__(self, status: int, message: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = dict(errors or {})


class TaskError(Exception):
    """A task ends with this sentence as its exit status."""


def forbidden(path: str, *privileges: str) -> ApiError:
    """The answer to a caller who lacks every one of `privileges` on `path` (wording of PVE::Exception::raise_perm_exc)."""
    return ApiError(403, f"Permission check failed ({path}, {'|'.join(privileges)})")


def invalid(**errors: str) -> ApiError:
    """The answer to a request with wrong parameters (wording of PVE::Exception::raise_param_exc)."""
    return ApiError(400, "Parameter verification failed.", {name.replace("__", "-"): text for name, text in errors.items()})
