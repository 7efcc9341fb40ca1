"""A drift report as a document, in the format that was asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from labctl.engine.drift.history import summaries
from labctl.engine.lab import OpenLab
from labctl.model.drift import DriftReport
from labctl.model.drift.formats.htmlmap import Spot
from labctl.model.lab import Lab

SUFFIXES = {".json": "json", ".md": "markdown", ".xml": "junit", ".prom": "prometheus", ".html": "html"}
"""The format of a file that a report is written to."""


def rendered(report: DriftReport, form: str, found: OpenLab) -> str:
    """The report as text.

    Args:
        report: The report.
        form: A value of `SUFFIXES`.
        found: Its lab.
    """
    if form == "json":
        from labctl.model.drift.formats.json import as_json

        return as_json(report)
    if form == "markdown":
        from labctl.model.drift.formats.markdown import as_markdown

        return as_markdown(report)
    if form == "junit":
        from labctl.model.drift.formats.junit import as_junit

        return as_junit(report)
    earlier = [run for run in summaries(found.paths) if run.at < report.at]
    if form == "prometheus":
        from labctl.model.drift.formats.prometheus import as_prometheus

        return as_prometheus(report, max((run.at for run in earlier if run.result != "error"), default=None))
    from labctl.model.drift.formats.html import as_html

    return as_html(report, earlier, _spots(found.lab, {stack.layer for stack in report.stacks}))


def _spots(lab: Lab, layers: Collection[str]) -> Iterator[Spot]:
    """What is on the map whether or not anything is found of it."""
    spots = [Spot(guest.name, guest.layer, stack=guest.layer) for guest in lab.guests()]
    spots += [Spot(name, "services", "service", "services") for name in lab.services.on()]
    spots += [Spot(name, "apps", "service", name) for name in lab.apps.on()]
    return (spot for spot in spots if spot.layer in layers)
