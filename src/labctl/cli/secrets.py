"""`labctl secrets`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from labctl.cli._completion import secret_paths
from labctl.cli._options import IdentityOption, JsonOption, LabOption, QuietOption, YesOption

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="List, seed, read and rotate the lab's secrets."
)


@app.command("list")
def list_(identity: IdentityOption = None, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """List secrets with their fields, version and readers; never a value."""
    from labctl.engine.lab import open_lab
    from labctl.engine.secrets import list_secrets

    found = list_secrets(open_lab(lab), tuple(identity or ()))
    if as_json:
        print(json.dumps({"secrets": found}, indent=2))
        return 0
    for entry in found:
        version = f"v{entry['version']}" if entry["version"] else "absent"
        print(
            f"{entry['path']:<20} {version:<7} {', '.join(entry['fields']):<24} readers: {', '.join(entry['readers']) or 'none'}"
        )
    return 0


@app.command()
def seed(identity: IdentityOption = None, lab: LabOption = None) -> int:
    """Generate and write what is absent. What is there stays as it is."""
    from labctl.engine.lab import open_lab
    from labctl.engine.secrets import seed_secrets

    result = seed_secrets(open_lab(lab), tuple(identity or ()))
    for path in result.created:
        print(f"seeded {path}")
    if not result.created:
        print("Nothing to do: every secret is there.")
    return 0


@app.command()
def get(
    path: Annotated[str, typer.Argument(metavar="PATH", help="as `labctl secrets list` names it", autocompletion=secret_paths)],
    field: Annotated[str | None, typer.Option("--field", "-f", help="print just this field's value")] = None,
    identity: IdentityOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """Print a secret in clear. Every reading is in the Vault's audit log."""
    from labctl.engine.lab import open_lab
    from labctl.engine.secrets import get_secret
    from labctl.model.errors import UserError, nearest

    secret = get_secret(open_lab(lab), path, tuple(identity or ()))
    data = {name: value.reveal() for name, value in secret.data.items()}
    if field is not None:
        if field not in data:
            raise UserError(f"secret {path!r} has no field {field!r}", hint=nearest(field, data))
        print(data[field])
    elif as_json:
        print(json.dumps({"path": secret.path, "version": secret.version, "data": data}, indent=2))
    else:
        for name, value in data.items():
            print(f"{name} = {value}")
    return 0


@app.command()
def rotate(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="as `labctl secrets list` names it", autocompletion=secret_paths)],
    field: Annotated[str, typer.Option("--field", "-f", help="just this field")] = "",
    yes: YesOption = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Give a secret a new value, and start again what uses it, in order; nothing else changes.

    Exit code: 0 done, 1 failed or declined, 130 interrupted.
    """
    from labctl.cli._questions import ask, somebody_to_ask
    from labctl.cli._view import view
    from labctl.engine.lab import open_lab
    from labctl.engine.rotate import bring_to_users, only_its_users, write_new_value
    from labctl.engine.run import Options
    from labctl.engine.start import starting
    from labctl.model.rotation import rotation

    somebody_to_ask(context, "secrets rotate", yes=yes)
    what = rotation(open_lab(lab).lab, path, field)
    fields, users = ", ".join(what.fields), ", ".join((*what.services, *(f"guest {name}" for name in what.guests)))
    if not as_json:
        print(f"New value for {what.path} ({fields}). Given to: {users or 'nobody but labctl'}.")
    if not yes and not ask("Rotate it?"):
        print("Declined: nothing was changed.")
        return 1
    options = Options(identities=tuple(identity or ()), assume_yes=True, confirm=lambda plans: only_its_users(what, plans))
    with view(context, quiet=quiet) as sink:
        with starting("rotate", lab, options, sink) as run:
            write_new_value(run, what)
        with starting("up", lab, options, sink) as run:
            report = bring_to_users(run, what)
    if not as_json:
        changed = [stack["name"] for stack in report.stacks if stack["result"] == "applied"]
        print(f"Rotated {what.path}; applied: {', '.join(changed) or 'no stack'} ({report.seconds:.1f} s).")
    return 0
