"""`labctl mirror`."""

from __future__ import annotations

import typer

from labctl.cli._options import LabOption
from labctl.cli._view import view

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def mirror(context: typer.Context, lab: LabOption = None) -> int:
    """Put the provider into the local mirror: from the registry where it answers, else built with Go.

    Copy the folder to a machine without network, and name it there with LABCTL_MIRROR.
    """
    from labctl.engine.events import Event
    from labctl.engine.lab import open_lab
    from labctl.engine.workspace import fill_mirror, progress_kind

    found = open_lab(lab)
    with view(context) as sink:
        sink(Event("stage", "filling the mirror"))
        entry = fill_mirror(found.paths, lambda text: sink(Event(progress_kind(text), text)))
    origin = {"mirror": "was there already", "registry": "downloaded from the registry", "build": "built with Go"}[entry.origin]
    print(f"{entry.source} {entry.version} for {entry.platform}: {origin}")
    print(f"  {entry.path}")
    return 0
