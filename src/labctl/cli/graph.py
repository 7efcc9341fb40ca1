"""`labctl graph`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli._completion import drawing_formats
from labctl.cli._options import AppOption, IdentityOption, JsonOption, LabOption, one_of
from labctl.cli._terminal import colour, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.model.drawing import Node

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_TONES = {"deployed": "green", "not deployed": "dim", "unknown": "yellow"}
_SUFFIXES = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".mermaid": "mermaid"}
FILE_WIDTH = 80


@app.command()
def graph(
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="text, mermaid, dot or svg. [default: by the name of --out, else text]",
            autocompletion=drawing_formats,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write to this file.")] = None,
    identity: IdentityOption = None,
    app_dir: AppOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Draw the stacks, what each needs, and whether it is deployed."""
    from labctl.engine.graph import FORMATS, app_graph, lab_graph
    from labctl.engine.lab import open_lab
    from labctl.model.drawing import as_document
    from labctl.model.errors import UserError

    if format_ is not None:
        one_of("format", format_, FORMATS)
        if as_json:
            raise UserError("--format and --json exclude each other", hint="Leave one of them out.")
    chosen = format_ or _SUFFIXES.get(out.suffix.lower() if out else "", "text")
    drawn = app_graph(app_dir) if app_dir else lab_graph(open_lab(lab), tuple(identity or ()))
    if as_json:
        problems = {"problems": list(drawn.problems)} if drawn.problems else {}
        text = json.dumps({"lab": drawn.name, "stacks": as_document(drawn.nodes), **problems}, indent=2) + "\n"
    else:
        text = FORMATS[chosen](drawn.nodes, FILE_WIDTH if out else width())
    if out is not None:
        _write(out, text)
    elif chosen == "text" and not as_json:
        _show_tree(drawn.nodes)
    else:
        print(text, end="")
    if not as_json:
        for problem in drawn.problems:
            print(f"{colour('warning:', 'yellow', sys.stderr)} {problem}", file=sys.stderr)
    return 0


def _show_tree(nodes: Sequence[Node]) -> None:
    from labctl.model.drawing import as_tree

    for line in as_tree(nodes, width()):
        print(f"{line.text}{colour(line.status, _TONES[line.status], sys.stdout)}" if line.status else line.text)


def _write(file: Path, text: str) -> None:
    from labctl.model.errors import UserError

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(file), hint="Name another file with --out.") from error
