"""`labctl unlock`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli._completion import stack_names
from labctl.cli._options import IdentityOption, JsonOption, LabOption
from labctl.cli._view import view

if TYPE_CHECKING:
    from labctl.engine.unlock import StateLock

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def unlock(
    context: typer.Context,
    stack: Annotated[str, typer.Argument(metavar="STACK", help="the stack whose state is locked", autocompletion=stack_names)],
    lock_id: Annotated[str, typer.Option("--id", metavar="LOCK_ID", help="Break the lock that has this id.")] = "",
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show the lock on a stack's state; with its id, break it.

    Exit code: 0 not locked (any more), 1 locked or failed.
    """
    from labctl.engine.run import Options
    from labctl.engine.start import starting
    from labctl.engine.unlock import unlock as read_or_break

    with view(context) as sink, starting("unlock", lab, Options(identities=tuple(identity or ())), sink) as run:
        found = read_or_break(run, stack, lock_id)
    if not as_json:
        for line in lock_lines(found):
            print(line)
    return 1 if found.info is not None and not found.broken else 0


def lock_lines(found: StateLock) -> list[str]:
    """The lock for people: whose it is, and what to do about it."""
    if found.broken:
        return [f"{found.stack} is unlocked. `labctl plan` shows where it stands."]
    if found.info is None:
        lines = [f"{found.stack} is not locked."]
        if found.left is not None:
            lines.append(f"  {found.where} was left by a process that is dead ({found.left.who}). It locks nothing.")
        return lines
    lines = [f"{found.stack} is locked by {found.holder}.", f"  {found.where}"]
    if found.working is not None:
        lines.append(f"  This lab's own Terraform still works there (process {found.working.pid}): wait for it to end.")
    elif found.local:
        lines.append("  A live process on this machine holds it: the lock goes when that ends, and cannot be broken before.")
    else:
        lines.append(f"  Only if that run is certainly dead: labctl unlock {found.stack} --id {found.info.id}")
    return lines
