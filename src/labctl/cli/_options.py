"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from labctl.cli._completion import guest_names, layer_names
from labctl.cli._errors import wants_json
from labctl.model.errors import UserError, nearest

LabOption = Annotated[
    Path | None,
    typer.Option("--lab", metavar="FILE", envvar="LABCTL_LAB", help="The lab's description. [default: lab.yaml here or above]"),
]
JsonOption = Annotated[bool, typer.Option("--json", callback=wants_json, help="Print JSON, for programs.")]
LayerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        "-l",
        metavar="LAYER",
        autocompletion=layer_names,
        help="Only this layer and what goes with it; may be repeated.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed where there is no terminal.")]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-destroy",
        metavar="NAME",
        autocompletion=guest_names,
        help="Consent to destroying or replacing this protected guest; may be repeated.",
    ),
]
IdentityOption = Annotated[
    list[Path] | None,
    typer.Option("--identity", "-i", metavar="FILE", help="An operator's age identity or SSH private key; may be repeated."),
]


def one_of(what: str, name: str, known: Collection[str]) -> None:
    """Refuses a name that is none of the known ones.

    Raises:
        UserError: It names the nearest.
    """
    if name not in known:
        raise UserError(f"there is no {what} {name!r}", hint=nearest(name, known))
