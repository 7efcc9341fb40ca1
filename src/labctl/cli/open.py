"""`labctl open`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._completion import service_names
from labctl.cli._options import IdentityOption, LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(name="open")
def show(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="a service or app", autocompletion=service_names)],
    identity: IdentityOption = None,
    lab: LabOption = None,
) -> int:
    """Print a service's address, as in `xdg-open $(labctl open mlflow)`."""
    from labctl.engine.lab import open_lab
    from labctl.engine.status import service_address

    print(service_address(open_lab(lab), service, tuple(identity or ())))
    return 0
