"""`labctl import`."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli._options import IdentityOption, JsonOption, LabOption, QuietOption, YesOption
from labctl.cli._questions import confirmation, somebody_to_ask
from labctl.cli._view import view

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def import_(
    context: typer.Context,
    vmid: Annotated[int, typer.Argument(metavar="VMID", help="the guest's number, as lab.yaml declares it")],
    yes: YesOption = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Bring a guest that is already there into the lab's state, after showing what `up` would then change. It is not touched.

    Exit code: 0 done, 1 failed or declined, 130 interrupted.
    """
    somebody_to_ask(context, "import", yes=yes)

    from labctl.engine.importing import import_guest
    from labctl.engine.run import Options
    from labctl.engine.start import starting

    with view(context, quiet=quiet) as sink:
        question = "Enter it into the state? The guest itself is not touched."
        options = Options(
            identities=tuple(identity or ()), assume_yes=yes, confirm=confirmation(context, sink, yes=yes, question=question)
        )
        with starting("import", lab, options, sink) as run:
            done = import_guest(run, vmid)
    if not as_json:
        print("`labctl plan` shows what `up` would change on it." if done else "Declined: nothing was changed.")
    return 0 if done else 1
