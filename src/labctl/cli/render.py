"""`labctl render`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._completion import guest_names
from labctl.cli._options import LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def render(
    guest: Annotated[str, typer.Argument(metavar="GUEST", help="vault, store, gitlab or docker", autocompletion=guest_names)],
    lab: LabOption = None,
) -> int:
    """Print a guest's cloud-init. It holds no secret."""
    from labctl.engine.lab import open_lab
    from labctl.engine.render import render_guest

    print(render_guest(open_lab(lab), guest), end="")
    return 0
