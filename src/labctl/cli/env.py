"""`labctl env`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._options import IdentityOption, LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def env(
    command: Annotated[list[str], typer.Argument(metavar="CMD…", help="after --: the command, as `cdktf diff platform`")],
    identity: IdentityOption = None,
    lab: LabOption = None,
) -> int:
    """Run a command with the lab's Terraform environment: provider, S3 backend, mirror. No value is printed.

    Exit code: the command's own.
    """
    from labctl.engine.environment import run_with_environment
    from labctl.engine.lab import open_lab

    return run_with_environment(open_lab(lab), command, tuple(identity or ()))
