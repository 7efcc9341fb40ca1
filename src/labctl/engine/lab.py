"""Finds and opens a lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labctl.engine.paths import LabPaths
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.sandbox.choice import Choice, choose

LAB_FILE = "lab.yaml"


@dataclass(frozen=True, slots=True)
class OpenLab:
    """A lab and where its things are.

    Attributes:
        lab: The lab; `target.sandbox.guests` is decided.
        paths: Where its things are.
        guests: What runs behind the guests of its sandbox, and why; None on a real host.
    """

    lab: Lab
    paths: LabPaths
    guests: Choice | None = None


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
    paths = LabPaths(path, lab.name)
    settings = lab.target.sandbox
    return _with(lab, paths, choose(settings.guests, paths.sandbox)) if settings else OpenLab(lab, paths)


def with_guests(found: OpenLab, kind: Literal["container", "appliance"]) -> OpenLab:
    """The lab with this kind of guests in its sandbox, whatever lab.yaml says.

    Raises:
        UserError: The lab is on a real host, or a guest's address does not fit.
    """
    if found.guests is None:
        raise UserError(
            f"lab {found.lab.name!r} is not on the sandbox",
            where="target",
            hint="`target: {sandbox: {}}` in lab.yaml makes it so.",
        )
    return _with(found.lab, found.paths, choose(found.guests.wish, found.paths.sandbox, kind))


def _with(lab: Lab, paths: LabPaths, choice: Choice) -> OpenLab:
    try:
        return OpenLab(lab.with_guests(choice.kind), paths, choice)
    except ValueError as error:
        raise UserError(
            f"{error}",
            where=paths.file.name,
            hint=f"Guests run as {choice.kind} ({choice.why}). Leave the address out, or set `target.sandbox.guests`.",
        ) from error


def _find() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / LAB_FILE).is_file():
            return folder / LAB_FILE
    raise UserError(
        f"there is no {LAB_FILE} in {here} or above",
        hint="Go to the lab's folder, or name the description with --lab FILE.",
    )
