"""`labctl doctor`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from labctl.cli._options import JsonOption, LabOption
from labctl.cli._terminal import colour

if TYPE_CHECKING:
    from labctl.model.preflight import Check

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_RIGHT = "right."
_TONES = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.command()
def doctor(lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Check what the lab needs; each failure comes with what mends it. Exit code 1 where something fails."""
    from labctl.engine.doctor import examine
    from labctl.engine.lab import open_lab

    checks: list[Check] = []
    for check in examine(open_lab(lab)):
        checks.append(check)
        if as_json:
            print(json.dumps(asdict(check)), flush=True)
        elif check.verdict != "ok" or not check.id.startswith(_RIGHT):
            _show(check)
    failed = [check for check in checks if check.verdict == "fail"]
    if not as_json:
        fine = [check for check in checks if check.verdict == "ok"]
        rights = [check for check in fine if check.id.startswith(_RIGHT)]
        if rights:
            # Two dozen lines about what the token may do would bury the one that matters.
            print(
                f"{colour('ok  ', 'green', sys.stdout)} rights of the token: {len(rights)} of those that the lab needs are there"
            )
        warned = len(checks) - len(fine) - len(failed)
        print(f"{len(fine)} checks are fine, {warned} warn, {len(failed)} fail.")
    return 1 if failed else 0


def _show(check: Check) -> None:
    print(f"{colour(f'{check.verdict:<4}', _TONES[check.verdict], sys.stdout)} {check.title}: {check.detail}", flush=True)
    if check.remedy and check.verdict != "ok":
        print(f"     {check.remedy}")
