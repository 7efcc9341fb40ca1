"""Opens what a drift check looks at, as far as that can be had: what cannot is a problem of those that need it, not the end."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from labctl.engine.interrupt import Interrupted
from labctl.engine.labrun import LabRun
from labctl.engine.preparing import take_stacks
from labctl.engine.run import StackRun, Stage
from labctl.engine.session import LOCAL_LAYER, local_state, remote_state
from labctl.engine.stages import check_options, open_lab_session, prepare_engine, synthesise
from labctl.engine.target import running_target
from labctl.model.drift.proxmox import Inventory, may_list
from labctl.model.errors import LabError, UserError, nearest
from labctl.synth import MANIFEST, read_manifest

SANDBOX_OFF = "the sandbox is not running"


@dataclass(frozen=True, slots=True)
class Opened:
    """What of a lab could be opened.

    Attributes:
        stacks: The stacks that the check is about.
        problem: Why no stack can be planned at all; None where nothing stands against it.
        problems: Why a stack's state cannot be read, by its name.
        lacking: The right without which the token is not shown snippets; "" where it has it.
    """

    stacks: tuple[StackRun, ...] = ()
    problem: LabError | None = None
    problems: Mapping[str, LabError] = field(default_factory=dict)
    lacking: str = ""


def open_for_drift(run: LabRun, *, only_look: bool = False) -> Opened:
    """Opens the target as it is, the stacks, Terraform and the states.

    Args:
        run: The run.
        only_look: Another run works on the lab: its stacks are taken as they lie there, and none is planned.

    Raises:
        UserError: A layer or stack that was named does not exist.
        Interrupted: A signal came.
    """
    with run.stage("checking the options"):
        check_options(run)
    problems = [_tried(run, _TARGET)]
    if not only_look:
        problems.append(_tried(run, _STACKS))
    if not run.stacks and (run.paths.root / MANIFEST).is_file():
        problems.append(_tried(run, ("reading the stacks", lambda run: take_stacks(run, read_manifest(run.paths.root)))))
    if not only_look:
        problems.append(_tried(run, _ENGINE))
    problem = next((one for one in problems if one is not None), None)
    with run.stage("reading the states"):
        return Opened(_chosen(run), problem, read_states(run), "" if problem else _lacking(run))


def _tried(run: LabRun, stage: Stage) -> LabError | None:
    name, work = stage
    with run.stage(name):
        try:
            work(run)
        except Interrupted:
            raise
        except LabError as error:
            return error
    return None


def _open_target(run: LabRun) -> None:
    """Connects to the hypervisor, which is asked once: each plan would wait for one that does not answer."""
    from labctl.adapters.proxmox import Proxmox

    try:
        target = running_target(run.lab, run.paths)
        if target is None:
            raise UserError(SANDBOX_OFF, hint="`labctl sandbox start`, or `labctl up`, starts it.")
        run.connect(target, Proxmox.connect)
    except LabError as error:
        run.target_problem = error
        raise
    run.hypervisor.resources()


def _lacking(run: LabRun) -> str:
    """A listing leaves out in silence what the token may not read, and a plan then takes it for gone."""
    try:
        seen = Inventory(permissions=run.hypervisor.permissions())
    except LabError:
        seen = Inventory()
    return may_list(seen, run.lab.datastores.snippets, "snippets")


_TARGET: Stage = ("opening the target", _open_target)
_STACKS: Stage = ("synthesising the stacks", synthesise)
_ENGINE: Stage = ("preparing Terraform", prepare_engine)


def read_states(run: LabRun) -> dict[str, LabError]:
    """Reads every stack's state; returns why one cannot be read, by stack. One that is damaged does not hide the others."""
    local = [stack for stack in run.stacks if stack.layer == LOCAL_LAYER]
    remote = [stack for stack in run.stacks if stack.layer != LOCAL_LAYER]
    problems: dict[str, LabError] = {}
    for stack in local:
        try:
            stack.state = local_state(run.paths, stack.name)
        except LabError as error:
            problems[stack.name] = error
    if not any(stack.state.deployed or stack.name in problems for stack in local):
        return problems
    try:
        open_lab_session(run)
    except Interrupted:
        raise
    except LabError as error:
        run.session, run.session_problem = None, error
        return problems | {stack.name: error for stack in remote}

    def read(stack: StackRun) -> None:
        assert run.session is not None
        try:
            stack.state = remote_state(run.session, run.paths, stack.name)
        except LabError as error:
            problems[stack.name] = error

    with ThreadPoolExecutor(max_workers=max(1, len(remote))) as pool:
        list(pool.map(read, remote))
    return problems


def _chosen(run: LabRun) -> tuple[StackRun, ...]:
    """Exactly the stacks that were named: what these need is no part of the question."""
    options = run.options
    names = [stack.name for stack in run.stacks]
    if options.stacks and not names:
        raise UserError(f"there is no stack {options.stacks[0]!r}", hint=nearest(options.stacks[0], names))
    wanted = run.graph.matching(options.stacks) if options.stacks else frozenset(names)
    found = tuple(stack for stack in run.stacks if stack.name in wanted and (not options.layers or stack.layer in options.layers))
    if not found and run.stacks:
        raise UserError(f"no stack of layer {' or '.join(options.layers)} is named {' or '.join(options.stacks) or 'so'}")
    return found
