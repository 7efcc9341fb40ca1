"""`labctl drift`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from labctl.cli._completion import layer_names, stack_names
from labctl.cli._errors import JSON_WANTED
from labctl.cli._options import IdentityOption, JsonOption, LabOption, QuietOption, YesOption, one_of
from labctl.cli._questions import confirmation, somebody_to_ask
from labctl.cli._terminal import is_terminal
from labctl.cli._view import complaints, view
from labctl.model.errors import UserError

if TYPE_CHECKING:
    from labctl.engine.events import Sink
    from labctl.engine.lab import OpenLab
    from labctl.model.drift import DriftReport

T = TypeVar("T")
app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    help="Show what changed outside of labctl, and what the code has that was not applied.",
)
FILE_COLUMNS = 120
FORMATS = ("table", "json", "markdown", "junit", "prometheus", "html")
AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="as `labctl drift` shows it")]


@app.callback(invoke_without_command=True)
def drift(
    context: typer.Context,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", "-l", metavar="LAYER", autocompletion=layer_names, help="Only stacks of this layer; may be repeated."
        ),
    ] = None,
    stack: Annotated[
        list[str] | None,
        typer.Option("--stack", metavar="STACK", autocompletion=stack_names, help="Only this stack; globs too; may be repeated."),
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")] = "table",
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there.")] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            "--report", metavar="FILE", help="Write it there too, as .json, .md, .xml (JUnit), .prom or .html; may be repeated."
        ),
    ] = None,
    notify: Annotated[bool, typer.Option("--notify", help="Tell whom `drift` in lab.yaml names.")] = False,
    lock_timeout: Annotated[
        float, typer.Option("--lock-timeout", metavar="SECONDS", min=0, help="How long a running `up` is waited for.")
    ] = 60,
    no_inventory: Annotated[bool, typer.Option("--no-inventory", help="Only the stacks, not the world beside them.")] = False,
    now: Annotated[str, typer.Option("--now", hidden=True)] = "",
    identity: IdentityOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Show what changed outside of labctl, and what the code has that was not applied. Nothing is changed.

    Exit code: 0 all is as described, 2 something is not, 1 something is not known.
    """
    if context.invoked_subcommand is not None:
        return 0
    from labctl.engine.drift import check_lab
    from labctl.engine.drift.areas import areas
    from labctl.engine.lab import open_lab
    from labctl.engine.run import Options

    form = "json" if as_json else form
    one_of("format", form, FORMATS)
    written = [(_format_of(file), file) for file in report or ()]
    found = open_lab(lab)
    options = Options(layers=tuple(layer or ()), stacks=tuple(stack or ()), identities=tuple(identity or ()))
    at = _now(now)
    with _progress(context, form, quiet=quiet) as sink:
        looks = {} if no_inventory else areas(at, found.lab.drift.unmanaged)
        checked = check_lab(lab, options, sink, looks, at, lock_timeout_s=lock_timeout, notify=notify)
    for written_form, file in written:
        _write(checked, written_form, file, found)
    if out is not None:
        _write(checked, form, out, found)
    else:
        _print(checked, form, found)
    return checked.exit_code


def _format_of(file: Path) -> str:
    from labctl.engine.drift.render import SUFFIXES

    if file.suffix not in SUFFIXES:
        known = ", ".join(f"{suffix} ({form})" for suffix, form in SUFFIXES.items())
        raise UserError(f"{file.name} has no ending that names a format", where="--report", hint=f"Known: {known}.")
    return SUFFIXES[file.suffix]


def _text(report: DriftReport, form: str, found: OpenLab) -> str:
    if form == "table":
        from labctl.cli._drift import drift_lines

        return "\n".join(drift_lines(report, FILE_COLUMNS)) + "\n"
    from labctl.engine.drift.render import rendered

    return rendered(report, form, found)


def _write(report: DriftReport, form: str, file: Path, found: OpenLab) -> None:
    from labctl.engine.paths import cannot_write, replace_file

    try:
        replace_file(file, _text(report, form, found))
    except OSError as error:
        raise cannot_write(file, error) from error


def _print(report: DriftReport, form: str, found: OpenLab) -> None:
    if form != "table":
        print(_text(report, form, found), end="")
        return
    from labctl.cli._drift import show_drift

    show_drift(report)


@app.command()
def accept(
    address: AddressArgument,
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="Last day on which it may be so, as 2026-12-31.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it may be so.")],
    owner: Annotated[str, typer.Option("--owner", metavar="NAME", help="Who answers for it.")] = "",
    attribute: Annotated[str, typer.Option("--attribute", metavar="PATH", help="The only attribute that may differ.")] = "",
    now: Annotated[str, typer.Option("--now", hidden=True)] = "",
    lab: LabOption = None,
) -> int:
    """Let a finding of the last check be, until a day: writes it into drift.yaml."""
    from labctl.engine.drift.accepting import accept as write_acceptance
    from labctl.engine.lab import open_lab
    from labctl.model.drift.acceptance import Acceptance

    if not reason.strip():
        raise UserError("says nothing", where="--reason", hint="Say why it may be so: others will read it.")
    entry = Acceptance(id=address, attribute=attribute, reason=reason.strip(), owner=owner, until=_day(until))
    file = write_acceptance(open_lab(lab).paths, entry, _now(now).date())
    print(f"{address} is let be until {entry.until} ({file.name}).")
    return 0


@app.command()
def fix(
    context: typer.Context,
    address: AddressArgument,
    yes: YesOption = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Apply one resource again that was changed outside of labctl.

    Exit code: 0 done, 1 failed or declined, 130 interrupted.
    """
    somebody_to_ask(context, "drift fix", yes=yes)

    from labctl.engine.drift.fix import fix as apply_again
    from labctl.engine.run import Options
    from labctl.engine.start import starting

    with view(context, quiet=quiet) as sink:
        confirm = confirmation(context, sink, yes=yes, question="Apply?")
        options = Options(identities=tuple(identity or ()), assume_yes=yes, confirm=confirm)
        with starting("drift fix", lab, options, sink) as run:
            done = apply_again(run, address)
    if not as_json:
        print(f"{address} is as described again." if done else "Declined: nothing was changed.")
    return 0 if done else 1


@contextmanager
def _progress(context: typer.Context, form: str, *, quiet: bool) -> Iterator[Sink]:
    """What is seen while it looks: a live view on a terminal, and nothing among a document on stdout."""
    if form != "table" or context.meta.get(JSON_WANTED) or not is_terminal(sys.stdout):
        yield complaints
        return
    with view(context, quiet=quiet) as sink:
        yield sink


def _now(text: str) -> datetime:
    if not text:
        return datetime.now(UTC)
    return _parsed(datetime.fromisoformat, text, "--now", "an ISO time").astimezone(UTC)


def _day(text: str) -> date:
    return _parsed(date.fromisoformat, text, "--until", "a day as 2026-12-31")


def _parsed(parse: Callable[[str], T], text: str, where: str, allowed: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UserError(f"found {text!r}, allowed: {allowed}", where=where) from error
