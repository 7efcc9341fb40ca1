"""`labctl logs`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._completion import service_names
from labctl.cli._options import IdentityOption, LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def logs(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="a service or app", autocompletion=service_names)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 100,
    identity: IdentityOption = None,
    lab: LabOption = None,
) -> int:
    """Show the last lines of a service's containers."""
    from labctl.engine.dockerguest import docker_engine, project_of
    from labctl.engine.lab import open_lab

    found = open_lab(lab)
    project = project_of(found, service)
    with docker_engine(found, tuple(identity or ())) as engine:
        if follow:
            return engine.follow_logs(project, lines=lines)
        print(engine.logs(project, lines=lines), end="")
    return 0
