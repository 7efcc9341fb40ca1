"""`labctl down`."""

from __future__ import annotations

import typer

from labctl.cli._options import (
    AllowOption,
    AppOption,
    FailFastOption,
    IdentityOption,
    JsonOption,
    LabOption,
    LayerOption,
    ParallelismOption,
    QuietOption,
    StackArguments,
    StackOption,
    YesOption,
)
from labctl.cli._questions import confirmation, somebody_to_ask
from labctl.cli._view import view

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def down(
    context: typer.Context,
    stacks: StackArguments = None,
    layer: LayerOption = None,
    stack: StackOption = None,
    yes: YesOption = False,
    allow_destroy: AllowOption = None,
    parallelism: ParallelismOption = None,
    fail_fast: FailFastOption = False,
    identity: IdentityOption = None,
    app_dir: AppOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Destroy stacks, and what depends on them, in reverse order.

    Guests are protected: each one needs --allow-destroy NAME. Exit code: 0 done, 1 failed or declined, 130 interrupted.
    """
    somebody_to_ask(context, "down", yes=yes)

    from labctl.engine.down import down as take_down
    from labctl.engine.run import Options
    from labctl.engine.start import opening
    from labctl.model.report import DECLINED, NOTHING

    with view(context, quiet=quiet) as sink:
        options = Options(
            layers=tuple(layer or ()),
            stacks=(*(stacks or ()), *(stack or ())),
            allow_destroy=tuple(name for entry in allow_destroy or () for name in entry.split(",")),
            identities=tuple(identity or ()),
            assume_yes=yes,
            parallelism=parallelism or 0,
            fail_fast=fail_fast,
            confirm=confirmation(context, sink, yes=yes, question="Destroy all this?"),
        )
        with opening("down", lab, app_dir, options, sink) as run:
            report = take_down(run)
    if not as_json:
        if report.result == DECLINED:
            print("Declined: nothing was destroyed.")
        elif report.result == NOTHING:
            print("Nothing to do: nothing of this is deployed.")
        else:
            names = ", ".join(stack["name"] for stack in report.stacks if stack["result"] == "destroyed")
            print(f"Destroyed {names} in {report.seconds:.1f} s.")
    return 1 if report.result == DECLINED else 0
