"""`labctl sandbox`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from labctl.cli._options import IdentityOption, JsonOption, LabOption, YesOption
from labctl.cli._view import view

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Start, stop and look at the embedded sandbox."
)


class Guests(StrEnum):
    """What runs behind the sandbox's guests."""

    CONTAINER = "container"
    APPLIANCE = "appliance"


GuestsOption = Annotated[
    Guests | None,
    typer.Option("--guests", help="What runs behind guests, whatever lab.yaml says; holds until `labctl sandbox reset`."),
]


@app.command()
def start(context: typer.Context, guests: GuestsOption = None, lab: LabOption = None) -> int:
    """Start the emulated Proxmox VE; guests that start on boot start with it."""
    from labctl.engine.events import Event
    from labctl.engine.lab import open_lab, with_guests
    from labctl.engine.sandbox import start_sandbox

    found = open_lab(lab)
    if guests:
        found = with_guests(found, guests.value)
    with view(context) as sink:
        info = start_sandbox(found, lambda text: sink(Event("stage", text)))
    print(f"The sandbox runs: {info.endpoint} (process {info.pid}).")
    return 0


@app.command()
def image(context: typer.Context) -> int:
    """Build the base image of container guests ahead; nothing to do where the Docker engine has it."""
    from labctl.engine.events import Event
    from labctl.engine.sandbox import build_image

    with view(context) as sink:
        name = build_image(lambda text: sink(Event("stage", text)))
    print(f"The guests' base image is {name}.")
    return 0


@app.command()
def images(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Which; all where none is named.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Build the container images that the sandbox serves its guests; nothing to do where they are kept."""
    from labctl.engine.events import Event
    from labctl.engine.sandbox import build_images

    with view(context) as sink:
        found = build_images(tuple(names or ()), lambda text: sink(Event("stage", text)))
    if as_json:
        # A line, as the events before it.
        print(json.dumps({"type": "images", "images": found}))
        return 0
    for one in found:
        print(f"{one['image']:<24} {one['size_mib']:>6} MiB  {one['digest']}  {'built now' if one['built'] else 'was there'}")
    return 0


@app.command()
def stop(lab: LabOption = None) -> int:
    """Stop it with its guests. Their data stays."""
    from labctl.engine.lab import open_lab
    from labctl.engine.sandbox import stop_sandbox

    print("The sandbox is stopped." if stop_sandbox(open_lab(lab)) else "The sandbox was not running.")
    return 0


@app.command()
def status(identity: IdentityOption = None, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Show how to reach it, with the emulator's own token and the lab's endpoints."""
    from labctl.engine.lab import open_lab
    from labctl.engine.sandbox import sandbox_status

    found = sandbox_status(open_lab(lab), tuple(identity or ()))
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    if not found["running"]:
        print("The sandbox is not running. `labctl up` or `labctl sandbox start` starts it.")
        return 0
    print(f"pve    {found['pve']['endpoint']} (node {found['pve']['node']}, guests: {found['runtime']})")
    for name in ("vault", "s3"):
        if found[name]:
            print(f"{name:<6} {found[name].get('address') or found[name].get('endpoint')}")
    for guest in found["guests"]:
        print(f"guest  {guest['vmid']:<5} {guest['name']:<10} {guest['status']:<8} {guest['address']}")
    return 0


@app.command()
def reset(context: typer.Context, yes: YesOption = False, lab: LabOption = None) -> int:
    """Stop it and delete all that is in it, with the lab's state. There is no way back."""
    from labctl.cli._questions import confirm_loss
    from labctl.engine.lab import open_lab
    from labctl.engine.sandbox import reset_sandbox

    found = open_lab(lab)
    question = f"Delete the sandbox of lab {found.lab.name!r} with all its guests, data and states?"
    if not confirm_loss(context, "sandbox reset", question, yes=yes):
        print("Declined: nothing was deleted.")
        return 1
    reset_sandbox(found)
    print("The sandbox is gone.")
    return 0
