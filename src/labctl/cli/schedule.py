"""`labctl schedule`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli._options import IdentityOption, JsonOption, LabOption

if TYPE_CHECKING:
    from labctl.adapters.systemd import Systemd
    from labctl.engine.lab import OpenLab
    from labctl.model.timer import Nightly

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Check the lab every night: install, remove, status."
)
UserOption = Annotated[
    bool | None, typer.Option("--user/--system", help="In your own systemd, or the machine's. [default: the machine's for root]")
]


@app.command()
def install(
    at: Annotated[str, typer.Option("--at", metavar="HH:MM", help="When, in the machine's time zone.")] = "03:30",
    user: UserOption = None,
    as_operator: Annotated[
        bool, typer.Option("--as-operator", help="Make no login of its own: use the operator's key that lies on this machine.")
    ] = False,
    show: Annotated[bool, typer.Option("--print", help="Print the units and install nothing.")] = False,
    cron: Annotated[bool, typer.Option("--cron", help="Make the login, and print the line for a crontab instead.")] = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
) -> int:
    """Write a timer and a service of systemd that run `labctl drift` every night. Run again, it renews the check's login."""
    from labctl.engine import timer
    from labctl.model.timer import time_of_day

    found, wanted, systemd = _open(lab, user, *time_of_day(at), credentials=not as_operator)
    if show:
        print("\n".join(f"# {name}\n{text}" for name, text in wanted.units.items()).rstrip())
        return 0
    if cron:
        if wanted.credentials:
            timer.write_credentials(found, tuple(identity or ()))
        print(wanted.cron)
        return 0
    if systemd is None:
        raise timer.no_systemd()
    done = timer.install(found, systemd, wanted, tuple(identity or ()))
    print(f"{wanted.name}.timer: {'installed' if done.changed else 'was there already'}, every night at {at}.")
    if done.login:
        print(f"  {wanted.credentials} has its login; `labctl schedule remove` takes it back.")
    if systemd.user:
        print("  `loginctl enable-linger` lets it run while you are not logged in.")
    return 0


@app.command()
def remove(
    user: UserOption = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Take back the check's logins of every other machine too.")
    ] = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
) -> int:
    """Remove timer and service, and take the check's login back."""
    from labctl.engine import timer

    found, wanted, systemd = _open(lab, user)
    removed = timer.remove(found, systemd, wanted, tuple(identity or ()), everywhere=everywhere)
    print("Removed." if removed else "There was nothing to remove.")
    if removed and systemd is None:
        print("If cron does the check, `crontab -e` and take its line out.")
    return 0


@app.command()
def status(user: UserOption = None, lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Show when the check runs next, and how it ended last. Exit code 1 where it is not installed or failed."""
    from labctl.engine import timer

    _found, wanted, systemd = _open(lab, user)
    if systemd is None:
        raise timer.no_systemd()
    state = timer.timer_state(systemd, wanted)
    words = {0: "all was as described", 2: "drift"}
    last = "never ran" if state is None or not state.result else words.get(state.code, f"failed ({state.result}, {state.code})")
    fine = state is not None and state.active and (not state.result or state.code in words)
    if as_json:
        shape = {"next": state.next, "last": state.last, "result": last} if state else {}
        print(json.dumps({"installed": state is not None, "active": bool(state and state.active), **shape}, indent=2))
    elif state is None:
        print("Not installed. `labctl schedule install` does it.")
    else:
        print(f"{wanted.name}.timer: {'waiting' if state.active else 'not active'}")
        print(f"  next  {state.next or 'unknown'}")
        print(f"  last  {state.last or 'never'}: {last}")
    return 0 if fine else 1


def _open(
    lab: object, user: bool | None, hour: int = 3, minute: int = 30, *, credentials: bool = True
) -> tuple[OpenLab, Nightly, Systemd | None]:
    import os
    from pathlib import Path

    from labctl.adapters.systemd import find_systemd
    from labctl.engine.lab import open_lab
    from labctl.engine.timer import nightly

    own = os.geteuid() != 0 if user is None else user
    found = open_lab(lab if isinstance(lab, Path) else None)
    return found, nightly(found, hour, minute, user=own, credentials=credentials), find_systemd(user=own)
