"""`labctl plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._options import (
    AppOption,
    IdentityOption,
    JsonOption,
    LabOption,
    LayerOption,
    OnlyOption,
    ParallelismOption,
    QuietOption,
    StackArguments,
    StackOption,
    SynthOption,
)
from labctl.cli._picture import show_picture
from labctl.cli._view import view

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def plan(
    context: typer.Context,
    stacks: StackArguments = None,
    layer: LayerOption = None,
    stack: StackOption = None,
    only: OnlyOption = False,
    detailed_exitcode: Annotated[bool, typer.Option("--detailed-exitcode", help="Exit with 2 where there are changes.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Keep the plans, for `labctl up --plan RUN`.")] = False,
    parallelism: ParallelismOption = None,
    synth: SynthOption = False,
    identity: IdentityOption = None,
    app_dir: AppOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Show what `up` would change. Nothing is changed.

    Exit code: 0 planned, 1 failed; with --detailed-exitcode 2 where there are changes.
    """
    from labctl.engine.plan import plan as make_plans
    from labctl.engine.run import Options
    from labctl.engine.start import opening

    options = Options(
        layers=tuple(layer or ()),
        stacks=(*(stacks or ()), *(stack or ())),
        only=only,
        save=save,
        parallelism=parallelism or 0,
        resynthesise=synth,
        identities=tuple(identity or ()),
    )
    with view(context, quiet=quiet) as sink, opening("plan", lab, app_dir, options, sink) as run:
        picture = make_plans(run)
    if not as_json:
        show_picture(picture.plans)
        if picture.saved:
            print(f"Kept. `labctl up --plan {picture.saved}` applies exactly this.")
    if not picture.fine:
        return 1
    return 2 if detailed_exitcode and picture.changes else 0
