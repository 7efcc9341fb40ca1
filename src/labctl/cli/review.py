"""`labctl review`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli._options import IdentityOption, JsonOption, LabOption, ParallelismOption, QuietOption, SynthOption
from labctl.cli._view import view

if TYPE_CHECKING:
    from labctl.engine.run import Run
    from labctl.model.review import Review

app = typer.Typer(rich_markup_mode=None, add_completion=False)
_SHORTEST = 2000


@app.command()
def review(
    context: typer.Context,
    base: Annotated[
        str,
        typer.Option("--base", metavar="REF", help="What the change is to be merged into. [default: the merge request's base]"),
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the Markdown here.")] = None,
    artifact: Annotated[
        Path | None, typer.Option("--artifact", metavar="DIR", help="Keep the plans in this folder, for `labctl up --plan DIR`.")
    ] = None,
    widget: Annotated[
        Path | None, typer.Option("--widget", metavar="FILE", help="Write the counts for GitLab's Terraform report here.")
    ] = None,
    no_note: Annotated[bool, typer.Option("--no-note", help="Write no note to the merge request.")] = False,
    note_limit: Annotated[
        int, typer.Option("--note-limit", min=_SHORTEST, metavar="N", help="Cut the note after this many characters.")
    ] = 1_000_000,
    parallelism: ParallelismOption = None,
    synth: SynthOption = False,
    identity: IdentityOption = None,
    lab: LabOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Show what a change of the lab's repository would do, in its merge request.

    Exit code: 0 planned, 1 a plan failed or breaks a rule.
    """
    from labctl.engine.review import review as make_review
    from labctl.engine.reviewnote import base_revision
    from labctl.engine.run import Options
    from labctl.engine.start import starting
    from labctl.model.review import widget as counts

    against = base_revision(base)
    options = Options(identities=tuple(identity or ()), parallelism=parallelism or 0, resynthesise=synth)
    with view(context, quiet=quiet) as sink, starting("review", lab, options, sink) as run:
        found = make_review(run, against, artifact)
        if widget is not None:
            _write(widget, json.dumps(counts(stack.plan for stack in found.stacks)) + "\n")
        shown = _tell(run, found, out, note_limit, post=not no_note)
    if shown and not as_json:
        print(shown)
    return 0 if found.fine else 1


def _tell(run: Run, found: Review, out: Path | None, limit: int, *, post: bool) -> str:
    """Writes file and note; returns what is to be printed: the Markdown, where it went nowhere else."""
    from labctl.engine.reviewnote import gitlab_token, place, posted
    from labctl.engine.steps.logins import GITLAB_TOKEN_VARIABLE
    from labctl.model.reviewnote import note

    where = place() if post else None
    text = note(found, limit=limit, link=where.job if where else "")
    if out is not None:
        _write(out, text + "\n")
    token = gitlab_token()
    if where is not None and token is None:
        run.say(f"no note: {GITLAB_TOKEN_VARIABLE} is not set", kind="warning", hint="docs/review.md says which token it takes.")
    elif where is not None and token is not None:
        said, error = posted(found, where, token, limit)
        if error is None:
            return said
        run.say(f"no note: {error}", kind="warning", hint=error.hint)
    return f"Wrote {out}." if out is not None else text


def _write(path: Path, text: str) -> None:
    from labctl.engine.paths import cannot_write

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
