"""`labctl output`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from labctl.cli._completion import layer_names, output_names
from labctl.cli._options import IdentityOption, JsonOption, LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def output(
    layer: Annotated[str, typer.Argument(metavar="LAYER", help="foundation or platform", autocompletion=layer_names)],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="one output; its bare value is printed", autocompletion=output_names)
    ] = None,
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Print a layer's outputs."""
    from labctl.engine.lab import open_lab
    from labctl.engine.status import read_outputs

    value = read_outputs(open_lab(lab), layer, name, tuple(identity or ()))
    if as_json or not isinstance(value, dict | str):
        print(json.dumps(value, indent=2))
    elif isinstance(value, str):
        print(value)
    else:
        for key, item in value.items():
            print(f"{key} = {json.dumps(item)}")
    return 0
