"""`labctl exec`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._completion import service_names
from labctl.cli._options import IdentityOption, LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="a service or app", autocompletion=service_names)],
    command: Annotated[list[str] | None, typer.Argument(metavar="CMD…", help="after --: a command; else a shell")] = None,
    identity: IdentityOption = None,
    lab: LabOption = None,
) -> int:
    """Run a command in a service's container, or get into it. Exit code: the command's own."""
    from labctl.engine.dockerguest import docker_engine, project_of
    from labctl.engine.lab import open_lab

    found = open_lab(lab)
    project = project_of(found, service)
    # What stands before the command may be `--` itself: the parser leaves it there behind an argument.
    words = list(command or ())
    words = words[1:] if words[:1] == ["--"] else words
    with docker_engine(found, tuple(identity or ())) as engine:
        return engine.enter(project, "", words or ["sh"])
