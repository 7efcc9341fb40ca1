"""How an error looks, and which exit code it gives."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from labctl.cli._terminal import colour, print_whole
from labctl.model.errors import LabError

JSON_WANTED = "labctl.json"


def show_error(error: LabError) -> int:
    """Prints what, where and what to do on stderr; returns the exit code."""
    print(f"{colour('error:', 'red', sys.stderr)} {error}", file=sys.stderr)
    for line in error.hint.splitlines():
        print(f"  {line}", file=sys.stderr)
    return 130 if _interrupted(error) else 1


def error_event(error: LabError) -> dict[str, Any]:
    """The error as `--json` prints it, one line on stdout before the exit."""
    event = {"type": "error", "text": error.message}
    if error.where:
        event["where"] = error.where
    if error.hint:
        event["hint"] = error.hint
    return event | {"interrupted": True} if _interrupted(error) else event


def wants_json(context: typer.Context, value: bool) -> bool:
    """Callback of `--json`: errors then go to stdout too."""
    if value:
        context.meta[JSON_WANTED] = True
    return value


def tell(error: LabError, context: typer.Context) -> None:
    """Prints the error's event where `--json` was given; once, whoever calls first."""
    if context.meta.pop(JSON_WANTED, False):
        print_whole(json.dumps(error_event(error)))


def _interrupted(error: LabError) -> bool:
    module = sys.modules.get("labctl.engine.interrupt")
    return module is not None and isinstance(error, module.Interrupted)
