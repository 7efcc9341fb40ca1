"""`labctl console`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from labctl.cli._completion import guest_names
from labctl.cli._options import LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def console(
    guest: Annotated[str, typer.Argument(metavar="GUEST", help="vault, store, gitlab or docker", autocompletion=guest_names)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what comes, until Ctrl-C.")] = False,
    lab: LabOption = None,
) -> int:
    """Show what a guest said since its start: its journal, cloud-init's first boot included."""
    from labctl.engine.console import console_lines
    from labctl.engine.lab import open_lab

    for line in console_lines(open_lab(lab), guest, follow=follow, note=lambda text: print(text, file=sys.stderr)):
        print(line, flush=follow)
    return 0
