"""`labctl ssh`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._completion import guest_names
from labctl.cli._options import IdentityOption, LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def ssh(
    guest: Annotated[str, typer.Argument(metavar="GUEST", help="vault, store, gitlab or docker", autocompletion=guest_names)],
    command: Annotated[list[str] | None, typer.Argument(metavar="CMD…", help="after --: a command; else a shell")] = None,
    identity: IdentityOption = None,
    lab: LabOption = None,
) -> int:
    """Get into a guest as user `ops`, with the host key that its agent told. No other host key is accepted.

    Exit code: the command's own; 255 where the connection failed.
    """
    from labctl.engine.lab import open_lab
    from labctl.engine.ssh import ssh_into

    # What stands before the command may be `--` itself: the parser leaves it there behind an argument.
    words = list(command or ())
    return ssh_into(open_lab(lab), guest, words[1:] if words[:1] == ["--"] else words, tuple(identity or ()))
