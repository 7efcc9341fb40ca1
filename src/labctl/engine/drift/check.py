"""The check itself: all stacks at once, all areas at the same time, held against what is accepted and what was there before."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from labctl.engine.drift.accepting import read_acceptances
from labctl.engine.drift.areas import Areas
from labctl.engine.drift.history import load_memory, save_check
from labctl.engine.drift.looking import look_at_stack, unknown
from labctl.engine.drift.notify import lab_gitlab, tell
from labctl.engine.drift.opening import Opened, open_for_drift
from labctl.engine.events import Sink
from labctl.engine.interrupt import Interrupted
from labctl.engine.journal import InUse
from labctl.engine.labrun import LabRun
from labctl.engine.run import Options, StackRun
from labctl.engine.start import looking, starting
from labctl.model.drift import AreaDrift, DriftReport, StackDrift, Verdict
from labctl.model.drift.acceptance import Acceptance, hold_against
from labctl.model.drift.memory import remember
from labctl.model.drift.report import untold
from labctl.model.errors import LabError, UserError

LOCK_TIMEOUT_S = 60.0
UNKNOWN = frozenset({Verdict.ERROR, Verdict.LOCKED})


def check_lab(
    lab_file: Path | None,
    options: Options,
    view: Sink,
    areas: Areas,
    now: datetime,
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    notify: bool = False,
) -> DriftReport:
    """Checks the lab of `lab_file`. The stacks of one that another run holds for too long are `locked`; its areas are looked at.

    Arguments as `check` has them.

    Raises:
        UserError: The lab or its `drift.yaml` cannot be read, or a name does not exist.
        Interrupted: A signal came.
    """
    began = time.monotonic()
    try:
        with starting("drift", lab_file, options, view, lock_timeout_s) as run:
            left_s = max(0.0, lock_timeout_s - (time.monotonic() - began))
            return check(run, areas, now, lock_timeout_s=left_s, notify=notify)
    except InUse as error:
        with looking("drift", lab_file, options, view) as run:
            return check(run, areas, now, in_use=error, notify=notify)


def check(
    run: LabRun,
    areas: Areas,
    now: datetime,
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    in_use: InUse | None = None,
    notify: bool = False,
) -> DriftReport:
    """Looks at everything, and remembers what it found.

    Args:
        run: The run. It changes nothing.
        areas: What looks at the world beside the states, by name; left out where layers or stacks were named.
        now: When the check is (UTC).
        lock_timeout_s: How long a state that is locked is waited for.
        in_use: Another run holds the lab: no stack is planned.
        notify: Tell whom `drift:` in lab.yaml names.

    Raises:
        UserError: `drift.yaml` cannot be read, or a layer or stack that was named does not exist.
        Interrupted: A signal came.
    """
    began = time.monotonic()
    entries = read_acceptances(run.paths)
    opened = open_for_drift(run, only_look=in_use is not None)
    narrowed = bool(run.options.layers or run.options.stacks)
    deadline = time.monotonic() + lock_timeout_s
    with run.stage("looking for drift"):
        stacks, found_areas = _look(run, opened, {} if narrowed else areas, deadline, in_use)
    told = untold(stacks, found_areas)
    report = DriftReport(run.lab.name, run.lab.target.kind, now, time.monotonic() - began, stacks, told)
    report = _with_history(run, report, entries, narrowed=narrowed or not areas)
    if notify:
        with run.stage("telling"):
            report = tell(report, run.lab.drift, lambda: lab_gitlab(run))
    return save_check(run.paths, report)


def _look(
    run: LabRun, opened: Opened, areas: Areas, deadline: float, in_use: InUse | None
) -> tuple[tuple[StackDrift, ...], tuple[AreaDrift, ...]]:
    with ThreadPoolExecutor(max_workers=max(1, len(opened.stacks) + len(areas)), thread_name_prefix="drift") as pool:
        # The plans take longest: they begin first.
        stacks = [pool.submit(_look_at_stack, run, opened, stack, deadline, in_use) for stack in opened.stacks]
        looked = [pool.submit(_look_at_area, run, name, look) for name, look in areas.items()]
        found = tuple(future.result() for future in stacks), tuple(future.result() for future in looked)
    run.interrupts.check()
    return found[0] or _never_synthesised(run, in_use), found[1]


def _look_at_stack(run: LabRun, opened: Opened, stack: StackRun, deadline: float, in_use: InUse | None) -> StackDrift:
    problem = opened.problems.get(stack.name)
    if in_use is not None:
        found = unknown(stack, in_use, Verdict.LOCKED)
    elif problem is None and (opened.problem is None or not stack.state.deployed):
        return look_at_stack(run, stack, deadline, opened.lacking)
    else:
        found = unknown(stack, opened.problem or problem or LabError("it could not be looked at"))
    run.stack_stage(stack.name, str(found.verdict), f"{found.verdict}: {found.problem}", ended=True)
    return found


def _look_at_area(run: LabRun, name: str, look: Callable[[LabRun], AreaDrift]) -> AreaDrift:
    began = time.monotonic()
    try:
        found = look(run)
    except Interrupted:
        raise
    except LabError as error:
        found = AreaDrift(name, problems=(error.told,))
    return replace(found, seconds=found.seconds or round(time.monotonic() - began, 3))


def _never_synthesised(run: LabRun, in_use: InUse | None) -> tuple[StackDrift, ...]:
    """The layers of a lab of which no stack is known here yet. Its first `up` may be at work."""
    layers = run.options.layers or run.lab.layers
    none = StackDrift("", "", Verdict.NOT_DEPLOYED)
    if in_use is not None:
        none = replace(none, verdict=Verdict.LOCKED, problem=in_use.message, hint=in_use.hint)
    return tuple(replace(none, name=layer, layer=layer) for layer in run.lab.layers if layer in layers)


def _with_history(run: LabRun, report: DriftReport, entries: tuple[Acceptance, ...], *, narrowed: bool) -> DriftReport:
    """The report with what is accepted, what is new and what is gone."""
    stacks = [finding for stack in report.stacks for finding in stack.findings]
    areas = [finding for area in report.areas for finding in area.findings]
    judged, unused = hold_against((*stacks, *areas), entries, report.at.date())
    looked = {stack.name for stack in report.stacks if stack.verdict not in UNKNOWN}
    looked |= {area.name for area in report.areas if not area.problems}
    memory = load_memory(run.paths)
    found, gone, kept = remember(judged, memory.found, report.at, looked)
    complete = not narrowed and len(looked) == len(report.stacks) + len(report.areas)
    report = replace(report, entries=found, gone=gone, unused=unused if complete else ())
    for warning in memory.warnings:
        report = report.with_warning(warning)
    try:
        memory.keep(kept)
    except UserError as error:
        report = report.with_warning(f"what was found is not remembered: {error}")
    return report
