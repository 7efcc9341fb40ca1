"""`labctl up`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli._options import (
    AllowOption,
    AppOption,
    FailFastOption,
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
    YesOption,
)
from labctl.cli._questions import confirmation, somebody_to_ask
from labctl.cli._summary import counts_text, endpoint_lines
from labctl.cli._terminal import colour, cut, width
from labctl.cli._view import view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.engine.report import Report
    from labctl.engine.run import Run
    from labctl.engine.status import Endpoint

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def up(
    context: typer.Context,
    stacks: StackArguments = None,
    layer: LayerOption = None,
    stack: StackOption = None,
    only: OnlyOption = False,
    yes: YesOption = False,
    allow_destroy: AllowOption = None,
    saved_plan: Annotated[
        str,
        typer.Option(
            "--plan",
            metavar="RUN",
            help="Apply exactly what `labctl plan --save` kept under this run, or `review` in this folder.",
        ),
    ] = "",
    parallelism: ParallelismOption = None,
    fail_fast: FailFastOption = False,
    synth: SynthOption = False,
    identity: IdentityOption = None,
    app_dir: AppOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Apply the stacks in order, until all is as described.

    Exit code: 0 done, 1 failed or declined, 130 interrupted.
    """
    somebody_to_ask(context, "up", yes=yes)

    from labctl.engine.run import Options
    from labctl.engine.start import opening
    from labctl.engine.up import up as bring_up
    from labctl.model.report import DECLINED

    with view(context, quiet=quiet) as sink:
        options = Options(
            layers=tuple(layer or ()),
            stacks=(*(stacks or ()), *(stack or ())),
            only=only,
            allow_destroy=tuple(name for entry in allow_destroy or () for name in entry.split(",")),
            identities=tuple(identity or ()),
            assume_yes=yes,
            parallelism=parallelism or 0,
            fail_fast=fail_fast,
            saved_plan=saved_plan,
            resynthesise=synth,
            confirm=confirmation(context, sink, yes=yes, question="Apply?"),
            confirm_again=confirmation(context, sink, yes=False, question="This goes beyond what you confirmed. Apply it?"),
        )
        with opening("up", lab, app_dir, options, sink) as run:
            report = bring_up(run)
            found: Sequence[Endpoint] = ()
            on_sandbox = False
            if app_dir is None:
                found, on_sandbox = _endpoints(run)
    if not as_json:
        _show(report, found, "all" if app_dir else "the lab", on_sandbox=on_sandbox)
    return 1 if report.result == DECLINED else 0


def _endpoints(run: Run) -> tuple[Sequence[Endpoint], bool]:
    """Where the lab can be reached, and whether that is on the sandbox. What a lab needs is not loaded for other projects."""
    from labctl.engine.labrun import LabRun
    from labctl.engine.status import endpoints

    assert isinstance(run, LabRun)
    return endpoints(run), not run.lab.boots


def _show(report: Report, found: Sequence[Endpoint], what: str, *, on_sandbox: bool) -> None:
    from labctl.model.report import DECLINED, NOTHING

    if report.result == DECLINED:
        print("Declined: nothing was changed.")
        return
    if report.result == NOTHING:
        print(f"{colour('Nothing to do', 'green', sys.stdout)}: {what} is as described ({report.seconds:.1f} s).")
    else:
        print(f"{colour('Done', 'green', sys.stdout)} in {report.seconds:.1f} s.")
        column = max((10, *(len(stack["name"]) for stack in report.stacks)))
        for stack in report.stacks:
            print(f"  {stack['name']:<{column}}  {stack['result']}{counts_text(stack)}")
    if report.changes and report.result != NOTHING:
        print(cut(f"  {'steps':<10}  {'; '.join(report.changes)}", width()))
    for line in endpoint_lines(found, width(), on_sandbox=on_sandbox):
        print(line)
