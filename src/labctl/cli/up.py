"""`labctl up`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli._options import AllowOption, IdentityOption, JsonOption, LabOption, LayerOption, YesOption
from labctl.cli._questions import confirmation, somebody_to_ask
from labctl.cli._summary import counts_text, endpoint_lines
from labctl.cli._terminal import colour, cut, width
from labctl.cli._view import view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.engine.report import Report
    from labctl.engine.status import Endpoint

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def up(
    context: typer.Context,
    layer: LayerOption = None,
    only: Annotated[bool, typer.Option("--only", help="Just the named layers, not what they need.")] = False,
    yes: YesOption = False,
    allow_destroy: AllowOption = None,
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Apply the layers in order, until the lab is as described.

    Exit code: 0 done, 1 failed or declined, 130 interrupted.
    """
    somebody_to_ask(context, "up", yes=yes)

    from labctl.engine.report import DECLINED
    from labctl.engine.run import Options
    from labctl.engine.start import starting
    from labctl.engine.status import endpoints
    from labctl.engine.up import up as bring_up

    with view(context) as sink:
        options = Options(
            layers=tuple(layer or ()),
            only=only,
            allow_destroy=tuple(name for entry in allow_destroy or () for name in entry.split(",")),
            identities=tuple(identity or ()),
            confirm=confirmation(context, sink, yes=yes, question="Apply?"),
            confirm_again=confirmation(context, sink, yes=False, question="This goes beyond what you confirmed. Apply it?"),
        )
        with starting("up", lab, options, sink) as run:
            report = bring_up(run)
            found, on_sandbox = endpoints(run), run.lab.target.sandbox is not None
    if not as_json:
        _show(report, found, on_sandbox=on_sandbox)
    return 1 if report.result == DECLINED else 0


def _show(report: Report, found: Sequence[Endpoint], *, on_sandbox: bool) -> None:
    from labctl.engine.report import DECLINED, NOTHING

    if report.result == DECLINED:
        print("Declined: nothing was changed.")
        return
    if report.result == NOTHING:
        print(f"{colour('Nothing to do', 'green', sys.stdout)}: the lab is as described ({report.seconds:.1f} s).")
    else:
        print(f"{colour('Done', 'green', sys.stdout)} in {report.seconds:.1f} s.")
        for stack in report.stacks:
            print(f"  {stack['name']:<10}  {stack['result']}{counts_text(stack)}")
    if report.changes and report.result != NOTHING:
        print(cut(f"  {'steps':<10}  {'; '.join(report.changes)}", width()))
    for line in endpoint_lines(found, width(), on_sandbox=on_sandbox):
        print(line)
