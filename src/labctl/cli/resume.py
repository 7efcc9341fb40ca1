"""`labctl resume`."""

from __future__ import annotations

import sys
from typing import Any

import typer

from labctl.cli._options import AppOption, IdentityOption, JsonOption, LabOption, ParallelismOption, QuietOption, YesOption
from labctl.cli.down import down
from labctl.cli.up import up

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def resume(
    context: typer.Context,
    yes: YesOption = False,
    parallelism: ParallelismOption = None,
    identity: IdentityOption = None,
    app_dir: AppOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Go on with the last `up` or `down` that failed or was cut off, with what it was about.

    What had been done stays done. Exit code: that of the command.
    """
    from labctl.engine.resume import last_unended
    from labctl.engine.start import project_paths

    found = last_unended(project_paths(lab, app_dir))
    if not as_json:
        print(f"Going on with `labctl {found.command}` of run {found.id}.", file=sys.stderr)
    same = {"stacks": list(found.stacks), "layer": list(found.layers), "allow_destroy": list(found.allow_destroy)}
    shared = {"yes": yes, "parallelism": parallelism, "identity": identity, "app_dir": app_dir, "lab": lab, "quiet": quiet}
    given: dict[str, Any] = {**same, **shared, "as_json": as_json}
    return down(context, **given) if found.command == "down" else up(context, only=found.only, **given)
