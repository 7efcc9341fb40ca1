"""`labctl untaint`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._completion import guest_names
from labctl.cli._options import IdentityOption, JsonOption, LabOption
from labctl.cli._view import view

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def untaint(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="a guest, or a Terraform address", autocompletion=guest_names)],
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Keep a guest that Terraform has marked as tainted, and would destroy and make anew.

    Exit code: 0 done, 1 failed or not tainted.
    """
    from labctl.engine.run import Options
    from labctl.engine.start import starting
    from labctl.engine.untaint import untaint as take_mark_off

    with view(context) as sink, starting("untaint", lab, Options(identities=tuple(identity or ())), sink) as run:
        take_mark_off(run, name)
    if not as_json:
        print("`labctl plan` shows what is left to do there.")
    return 0
