"""`drift.yaml` beside `lab.yaml`: read, and written to by `labctl drift accept`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from labctl.engine.drift.history import load_memory
from labctl.engine.paths import LabPaths, cannot_write, replace_file
from labctl.model.drift.acceptance import DRIFT_FILE, Acceptance, DriftFile, known_as, parse_drift_file
from labctl.model.drift.memory import Remembered
from labctl.model.errors import UserError, nearest
from labctl.model.labfile import load_yaml

_HEAD = "# What `labctl drift` lets be, until when and why (docs/drift.md).\n"


def read_acceptances(paths: LabPaths) -> tuple[Acceptance, ...]:
    """The entries of `drift.yaml`; none where there is no such file.

    Raises:
        UserError: It cannot be read, or is not as it must be; file and line are named.
    """
    return _parse(_text(_file(paths))).accept


def accept(paths: LabPaths, entry: Acceptance, today: date) -> Path:
    """Appends an entry to `drift.yaml`; what else is in it stays as it is, comments too.

    Raises:
        UserError: Its day is over, the last check had no such finding, or the file has such an entry already.
    """
    file = _file(paths)
    text = _text(file)
    if entry.expired(today):
        raise UserError(f"{entry.until} is over", where="--until", hint=f"Name a day from {today} on.")
    _refuse_unknown(entry.id, list(load_memory(paths).found.values()))
    _refuse_twice(entry, _parse(text).accept, file.name)
    try:
        replace_file(file, _appended(text, entry))
    except OSError as error:
        raise cannot_write(file, error) from error
    return file


def _file(paths: LabPaths) -> Path:
    return paths.file.with_name(DRIFT_FILE)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text (byte {error.start})", where=str(file)) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(file)) from error


def _parse(text: str) -> DriftFile:
    return parse_drift_file(text)


def _refuse_unknown(wanted: str, found: Collection[Remembered]) -> None:
    names = {name for one in found for name in known_as(one.place, one.id)}
    if not names:
        raise UserError("the last check found nothing that could be let be", hint="`labctl drift` makes one.")
    if wanted not in names:
        raise UserError(f"the last check found nothing at {wanted!r}", hint=nearest(wanted, {one.id for one in found}))


def _refuse_twice(entry: Acceptance, known: Collection[Acceptance], filename: str) -> None:
    for old in known:
        if (old.id, old.attribute) == (entry.id, entry.attribute):
            raise UserError(
                f"{entry.id} is let be already, until {old.until}: {old.reason}",
                where=filename,
                hint="Change that entry.",
            )


def _appended(text: str, entry: Acceptance) -> str:
    yaml = YAML(typ="rt")
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    yaml.preserve_quotes = True
    document: Any = load_yaml(text, DRIFT_FILE)
    fields = {name: value for name, value in entry.model_dump().items() if value != ""}
    if document is None:
        document = {"accept": []}
        head = text if text.strip() else _HEAD
    else:
        head = ""
    document["accept"] = document.get("accept") or []
    document["accept"].append(fields)
    out = StringIO()
    yaml.dump(document, out)
    return head + out.getvalue()
