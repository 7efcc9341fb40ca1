"""`journalctl` of an appliance: what its units said since they were first started, from their log files."""

from __future__ import annotations

import getopt
import json

from labctl.sandbox.guests.files import GuestFiles, unit_log
from labctl.sandbox.guests.systemctl import Result

_CURSOR = "-- cursor: "
_OPTIONS = ["boot", "no-pager", "show-cursor", "lines=", "output=", "unit=", "after-cursor="]


def journalctl(files: GuestFiles, units: tuple[str, ...], arguments: list[str]) -> Result:
    """Carry out one call. The cursor says how much of each unit's log was shown; there are no times to merge them by."""
    options, _ = getopt.gnu_getopt(arguments, "bn:o:u:", _OPTIONS)
    given = dict(options)
    wanted = [value for name, value in options if name in ("-u", "--unit")] or list(units)
    seen = json.loads(given.get("--after-cursor") or "{}")
    lines, cursor = [], dict(seen)
    for unit in wanted:
        content = files.read(unit_log(unit)) if files.exists(unit_log(unit)) else b""
        # A last line without its end is still being written.
        whole = content[: content.rfind(b"\n") + 1]
        prefix = "" if given.get("--output", given.get("-o")) == "cat" else f"{unit}: "
        lines += [prefix + line for line in whole[int(seen.get(unit, 0)) :].decode(errors="replace").splitlines()]
        cursor[unit] = len(whole)
    count = given.get("--lines", given.get("-n", "all"))
    shown = lines if count == "all" else lines[max(0, len(lines) - int(count)) :]
    end = [_CURSOR + json.dumps(cursor, separators=(",", ":"))] if "--show-cursor" in given else []
    return Result(out="".join(f"{line}\n" for line in (*shown, *end)))
