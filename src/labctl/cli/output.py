"""`labctl output`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.cli._completion import layer_names, output_names
from labctl.cli._options import AppOption, IdentityOption, JsonOption, LabOption

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def output(
    layer: Annotated[
        str, typer.Argument(metavar="LAYER", help="a layer or stack of the lab; a stack with --app", autocompletion=layer_names)
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="one output; its bare value is printed", autocompletion=output_names)
    ] = None,
    identity: IdentityOption = None,
    app_dir: AppOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Print the outputs of a layer or stack, or of a CDKTF project's stack."""
    value = _of_app(app_dir, layer, name, masked=not as_json) if app_dir else _of_lab(lab, layer, name, identity)
    if as_json or not isinstance(value, dict | str):
        print(json.dumps(value, indent=2))
    elif isinstance(value, str):
        print(value)
    else:
        for key, item in value.items():
            print(f"{key} = {json.dumps(item)}")
    return 0


def _of_lab(lab: Path | None, layer: str, name: str | None, identity: list[Path] | None) -> Any:
    from labctl.engine.lab import open_lab
    from labctl.engine.status import read_outputs

    return read_outputs(open_lab(lab), layer, name, tuple(identity or ()))


def _of_app(folder: Path, stack: str, name: str | None, *, masked: bool) -> Any:
    from labctl.engine.apprun import read_app_outputs
    from labctl.engine.run import Options
    from labctl.engine.start import starting_app

    with starting_app("output", folder, Options(), lambda _event: None) as run:
        return read_app_outputs(run, stack, name, masked=masked)
