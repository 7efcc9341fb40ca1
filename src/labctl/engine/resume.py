"""`labctl resume`: what the last `up` or `down` was about, where it did not end well."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.engine.journal import journals
from labctl.engine.paths import RunPaths
from labctl.model.errors import UserError
from labctl.model.report import DONE, NOTHING

COMMANDS = ("up", "down")


@dataclass(frozen=True, slots=True)
class Unended:
    """A run to go on with.

    Attributes:
        id: Its id.
        command: `up` or `down`.
        layers: The layers that it was about.
        stacks: Names and globs of the stacks that it was about.
        allow_destroy: What it might destroy.
        only: Whether what these need was left out.
    """

    id: str
    command: str
    layers: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    allow_destroy: tuple[str, ...] = ()
    only: bool = False


def last_unended(paths: RunPaths) -> Unended:
    """The last `up` or `down`.

    Raises:
        UserError: There is none, or it ended well.
    """
    for run_id, events in journals(paths.runs) if paths.runs.is_dir() else ():
        begin = next((event for event in events if event.get("type") == "run"), {})
        if begin.get("command") not in COMMANDS:
            continue
        result = next((event.get("result") for event in reversed(events) if event.get("type") == "report"), "")
        if result in (DONE, NOTHING):
            raise UserError(f"the last run, `labctl {begin['command']}` ({run_id}), ended well: there is nothing to go on with")
        chosen = begin.get("selection") or {}
        return Unended(
            run_id,
            begin["command"],
            layers=tuple(chosen.get("layers", ())),
            stacks=tuple(chosen.get("stacks", ())),
            allow_destroy=tuple(chosen.get("allow_destroy", ())),
            only=bool(chosen.get("only")),
        )
    raise UserError("there is no run to go on with", hint="`labctl up` is one.")
