"""Finds and opens a lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labctl.engine.paths import LabPaths
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab

LAB_FILE = "lab.yaml"


@dataclass(frozen=True, slots=True)
class OpenLab:
    """A lab and where its things are."""

    lab: Lab
    paths: LabPaths


def open_lab(file: Path | None = None) -> OpenLab:
    """The lab that `file` describes; without one, that of `lab.yaml` here or in a folder above.

    Raises:
        UserError: There is no such file, it cannot be read, or it does not describe a lab.
    """
    path = (file or _find()).absolute()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("does not exist", where=str(path), hint="Name the lab's description with --lab FILE.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text (byte {error.start})", where=str(path)) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    lab = parse_lab(text, path.name)
    return OpenLab(lab, LabPaths(path, lab.name))


def _find() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / LAB_FILE).is_file():
            return folder / LAB_FILE
    raise UserError(
        f"there is no {LAB_FILE} in {here} or above",
        hint="Go to the lab's folder, or name the description with --lab FILE.",
    )
