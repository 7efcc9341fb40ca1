"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from labctl.cli._completion import guest_names, layer_names, stack_names
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
        help="Consent to destroying or replacing this guest, or what has this Terraform address; may be repeated.",
    ),
]
IdentityOption = Annotated[
    list[Path] | None,
    typer.Option("--identity", "-i", metavar="FILE", help="An operator's age identity or SSH private key; may be repeated."),
]
AppOption = Annotated[
    Path | None,
    typer.Option("--app", metavar="DIR", help="A CDKTF project instead of a lab: the folder with its cdktf.json."),
]
StackArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="STACK...", autocompletion=stack_names, help="Only these stacks and what goes with them; globs too."),
]
StackOption = Annotated[
    list[str] | None,
    typer.Option("--stack", metavar="STACK", autocompletion=stack_names, help="As the argument STACK; may be repeated."),
]
OnlyOption = Annotated[bool, typer.Option("--only", help="Just what is named, not what it needs.")]
ParallelismOption = Annotated[
    int | None,
    typer.Option("--parallelism", min=1, max=256, help="How many stacks at the same time. [default: two for each processor]"),
]
FailFastOption = Annotated[bool, typer.Option("--fail-fast", help="Start nothing new once a stack has failed.")]
SynthOption = Annotated[bool, typer.Option("--synth", help="Synthesise even if nothing seems to have changed.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings, errors and the result.")]


def one_of(what: str, name: str, known: Collection[str]) -> None:
    """Refuses a name that is none of the known ones.

    Raises:
        UserError: It names the nearest.
    """
    if name not in known:
        raise UserError(f"there is no {what} {name!r}", hint=nearest(name, known))
