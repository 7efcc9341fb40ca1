"""The table of commands and the way in."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from labctl import __version__
from labctl.cli._params import read_plainly
from labctl.model.errors import LabError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

# A command's module is imported when it is called, so that `labctl --help` answers at once.
COMMANDS = {
    "up": "Apply the layers in order, until the lab is as described.",
    "plan": "Show what `up` would change.",
    "drift": "Show what changed outside of labctl, and what the code has that was not applied.",
    "review": "Show what a change would do, in its merge request.",
    "down": "Destroy layers, and what depends on them.",
    "resume": "Go on with the last `up` or `down` that did not end well.",
    "status": "Show where the lab stands.",
    "output": "Print a layer's outputs.",
    "graph": "Draw the stacks, what each needs, and whether it is deployed.",
    "runs": "List the runs that are kept, or show one.",
    "open": "Print a service's address.",
    "logs": "Show the last lines of a service.",
    "exec": "Run a command in a service's container.",
    "provision": "Databases, topics, models and buckets for projects.",
    "ssh": "Get into a guest, or run a command there.",
    "console": "Show what a guest said since its start.",
    "render": "Print a guest's cloud-init.",
    "import": "Bring a guest that is already there into the lab's state.",
    "untaint": "Keep a guest that Terraform would destroy and make anew.",
    "unlock": "Show the lock on a stack's state, or break it.",
    "secrets": "List, seed and read the lab's secrets.",
    "vault": "Look after the lab's Vault: status, unseal.",
    "sandbox": "Start, stop and look at the embedded sandbox.",
    "schedule": "Check the lab every night: install, remove, status.",
    "doctor": "Check what the lab needs, and say how to get it.",
    "mirror": "Put the Terraform provider into the local mirror.",
    "env": "Run a command with the lab's Terraform environment.",
}


_MODULES = {"import": "import_"}
"""Where a command's name cannot be a module's."""


class _LazyGroup(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"labctl.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            from labctl.cli._errors import tell

            tell(error, ctx)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise LabError(f"there is no command {args[0]!r}", hint=nearest(args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    name="labctl",
    cls=_LazyGroup,
    help="A whole data and ML lab on Proxmox VE, from one description (lab.yaml).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    if value:
        print(f"labctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failed, 130 interrupted, 2 where the command documents it."""
    read_plainly()
    try:
        code = _run(argv)
    except LabError as error:
        from labctl.cli._errors import show_error

        code = show_error(error)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        # A file of the lab, or of the temporary folder, that no room below could say more about.
        from labctl.cli._errors import show_error
        from labctl.engine.paths import cannot_write

        code = show_error(cannot_write(Path(str(error.filename or ".labctl")), error))
    sys.exit(code)


def _run(argv: Sequence[str] | None) -> int:
    try:
        result = app(args=argv, prog_name="labctl", standalone_mode=False)
    except typer.Abort:
        return 130
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # A usage error of the parser. Its own exit code is 2, which here means "changes" or "drift".
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "labctl"
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)
        else:
            print(f"error: {error.format_message()}\n  `{path} --help` tells what there is.", file=sys.stderr)
        return 1
    return result if isinstance(result, int) else 0
