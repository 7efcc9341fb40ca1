"""`labctl runs`."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli._completion import report_formats, run_ids
from labctl.cli._options import AppOption, JsonOption, LabOption, one_of
from labctl.cli._terminal import colour, cut, width

if TYPE_CHECKING:
    from labctl.model.report import PathStep, RunReport, StackResult

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_TONES = {"done": "green", "nothing to do": "green", "applied": "green", "failed": "red", "interrupted": "yellow"} | {
    "cut off": "red",
    "blocked": "yellow",
    "running": "bold",
}


@app.command()
def runs(
    run: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="one run: its id, the beginning of it, or its last letters", autocompletion=run_ids),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="One run as markdown or junit.", autocompletion=report_formats),
    ] = None,
    app_dir: AppOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> int:
    """List the runs that are kept, or show one: its stacks, what failed, and where the time went."""
    from labctl.engine.runs import find_run, kept_runs
    from labctl.engine.start import project_paths
    from labctl.model.errors import UserError
    from labctl.model.report import as_document
    from labctl.model.reportformats import FORMATS

    if format_ is not None:
        one_of("format", format_, FORMATS)
        if run is None or as_json:
            raise UserError("--format is for one run, without --json", hint="Write `labctl runs ID --format …`.")
    found = project_paths(lab, app_dir)
    if run is None:
        kept = kept_runs(found)
        if as_json:
            print(json.dumps({"lab": found.name, "runs": [_entry(one) for one in kept]}, indent=2))
        else:
            _show(list_lines(kept), width())
        return 0
    report = find_run(found, run)
    if format_ is not None:
        print(FORMATS[format_](report), end="")
    elif as_json:
        print(json.dumps(as_document(report), indent=2))
    else:
        _show(run_lines(report, width()), width())
    return 0


def _show(lines: Sequence[tuple[str, str]], columns: int) -> None:
    """Prints lines; the second part of each is the word in it that has a colour."""
    for line, word in lines:
        shown = cut(line, columns)
        tone = _TONES.get(word, "")
        print(colour(word, tone, sys.stdout).join(shown.split(word, 1)) if tone and word in shown else shown)


def _entry(report: RunReport) -> dict[str, object]:
    return {
        "id": report.id,
        "command": report.command,
        "began": report.began,
        "seconds": round(report.seconds, 3),
        "result": report.result,
        "stacks": len(report.stacks),
        "changed": list(report.changed),
    }


def list_lines(kept: Sequence[RunReport]) -> list[tuple[str, str]]:
    """The runs as a table, each line with its result."""
    from labctl.model.reportformats import duration, moment

    if not kept:
        return [("No run is kept yet; `labctl up` and `labctl plan` are runs.", "")]
    rows = [("RUN", "COMMAND", "BEGAN (UTC)", "TOOK", "RESULT", "CHANGED")]
    for one in kept:
        changed = f"{len(one.changed)} of {len(one.stacks)}" if one.stacks else ""
        rows.append((one.id, one.command, moment(one.began)[5:16], duration(one.seconds), one.result, changed))
    return list(zip(_table(rows), ["", *(one.result for one in kept)], strict=True))


def run_lines(report: RunReport, columns: int) -> list[tuple[str, str]]:
    """One run, for people: each line with its result, where it has one."""
    from labctl.model.report import critical_path
    from labctl.model.reportformats import duration, moment

    took = f"took {duration(report.seconds)}" if report.result != "running" else f"for {duration(report.seconds)}"
    lines = [
        (f"labctl {report.command}: {report.result}", report.result),
        (f"  run {report.id} of lab {report.lab}", ""),
        (f"  began {moment(report.began)} UTC, {took}", ""),
    ]
    if report.error:
        lines += [(line, "") for line in (*_wrapped(report.error, 2, columns), *_wrapped(report.hint, 4, columns))]
    if report.stacks:
        lines += [("", ""), *_stack_lines(report, columns)]
    path = critical_path(report)
    if path:
        stacks = {stack.name: stack for stack in report.stacks}
        lines += [("", ""), ("where the time went", "")]
        lines += [(f"  {line}", "") for line in _path_lines(path, stacks, report.seconds)]
    if report.steps:
        lines += [("", ""), ("steps", ""), *((f"  {step}", "") for step in report.steps)]
    return lines


def _stack_lines(report: RunReport, columns: int) -> list[tuple[str, str]]:
    from labctl.model.reportformats import duration, resources, why

    rows = [("STACK", "LAYER", "RESULT", "TOOK", "RESOURCES")]
    for stack in report.stacks:
        took = duration(stack.seconds) if stack.seconds is not None else ""
        rows.append((stack.name, stack.layer, stack.result, took, resources(stack)))
    heading, *table = _table(rows)
    told = " ".join(report.error.split())
    lines = [(f"  {heading}", "")]
    for stack, line in zip(report.stacks, table, strict=True):
        lines.append((f"  {line}", stack.result))
        if why(stack) not in told:
            lines += [(reason, "") for reason in _wrapped(why(stack), 4, columns)]
    return lines


def _path_lines(path: Sequence[PathStep], stacks: dict[str, StackResult], seconds: float) -> list[str]:
    """The critical path with the waiting between its stacks, and what came before and after it."""
    from labctl.model.reportformats import duration

    rows: list[tuple[str, ...]] = []
    for number, step in enumerate(path):
        if step.waited_s >= 0.05:
            rows.append((duration(step.waited_s), "preparing and planning" if number == 0 else "waiting"))
        parts = ", ".join(f"{name} {duration(took)}" for name, took in stacks[step.name].phases.items() if took >= 0.05)
        rows.append((duration(step.seconds), step.name + (f" ({parts})" if parts else "")))
    rest_s = seconds - max(stacks[step.name].ended_s or 0.0 for step in path)
    if rest_s >= 0.05:
        rows.append((duration(rest_s), "after the last stack"))
    return _table(rows)


def _wrapped(text: str, indent: int, columns: int) -> list[str]:
    space = " " * indent
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, max(20, columns - indent)) if part]
    return [space + line for line in lines]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
