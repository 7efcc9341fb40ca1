"""What the shell offers: names of layers, stacks, guests, outputs, secrets, topics and runs.

From the description alone: nothing is asked or started, and no secret is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from labctl.engine.lab import OpenLab
    from labctl.model.lab import Lab


def layer_names(context: typer.Context) -> list[str]:
    """The lab's layers."""
    return _of_lab(context, lambda lab: list(lab.layers))


def stack_names(context: typer.Context) -> list[str]:
    """The stacks, as they were last synthesised: of the project with `--app`, else of the lab; before that, its layers."""
    from labctl.engine.lab import open_lab
    from labctl.model.errors import LabError
    from labctl.synth import read_manifest, read_project

    app = context.params.get("app_dir")
    try:
        root = read_project(Path(app)).outdir if app else open_lab(_lab_file(context)).paths.root
        return [stack.name for stack in read_manifest(root)] if (root / "manifest.json").is_file() else layer_names(context)
    except LabError:
        return []


def output_names(context: typer.Context) -> list[str]:
    """The outputs of the layer that is typed already."""
    from labctl.model.contracts import CONTRACTS

    contract = CONTRACTS.get(str(context.params.get("layer")))
    return list(contract.model_fields) if contract else []


def guest_names(context: typer.Context) -> list[str]:
    """The lab's guests."""
    return _of_lab(context, lambda lab: [guest.name for guest in lab.guests()])


def service_names(context: typer.Context) -> list[str]:
    """The services and apps that are on."""
    return _of_lab(context, lambda lab: list(lab.compose_projects))


def secret_paths(context: typer.Context) -> list[str]:
    """The paths that the lab's catalogue names."""

    def paths(lab: Lab) -> list[str]:
        from labctl.model.catalogue import catalogue

        return [spec.path for spec in catalogue(lab)]

    return _of_lab(context, paths)


def app_topics(context: typer.Context) -> list[str]:
    """The topics of Kafka that the lab's own apps need."""

    def topics(lab: Lab) -> list[str]:
        from labctl.model.apps import FEEDBACK_TOPIC, RESULTS_TOPIC

        return [RESULTS_TOPIC, FEEDBACK_TOPIC] if "mlserver" in lab.apps.on() else []

    return _of_lab(context, topics)


def run_ids(context: typer.Context) -> list[str]:
    """The runs that are kept."""
    from labctl.engine.runs import run_ids as kept

    return _of_open_lab(context, lambda found: list(kept(found.paths)))


def report_formats() -> list[str]:
    """What a run's report can be written as."""
    from labctl.model.reportformats import FORMATS

    return list(FORMATS)


def drawing_formats() -> list[str]:
    """What the graph can be drawn as."""
    from labctl.engine.graph import FORMATS

    return list(FORMATS)


def _of_lab(context: typer.Context, names: Callable[[Lab], list[str]]) -> list[str]:
    return _of_open_lab(context, lambda found: names(found.lab))


def _of_open_lab(context: typer.Context, names: Callable[[OpenLab], list[str]]) -> list[str]:
    from labctl.engine.lab import open_lab
    from labctl.model.errors import LabError

    try:
        return names(open_lab(_lab_file(context)))
    except LabError:
        # A shell that completes has no place for an error; the command itself will tell it.
        return []


def _lab_file(context: typer.Context) -> Path | None:
    named = context.params.get("lab") or os.environ.get("LABCTL_LAB")
    return Path(named) if named else None
