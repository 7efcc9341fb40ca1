"""What every run begins with, whatever it is over: its stages in order, its stacks, and those that it is about."""

from __future__ import annotations

from collections.abc import Collection

from labctl.engine.events import Event
from labctl.engine.run import Run, StackRun
from labctl.model.errors import UserError
from labctl.synth import Stack


def prepare(run: Run, command: str) -> None:
    """Runs the stages that the project has before the plans of a command.

    Raises:
        LabError: A stage failed.
    """
    for name, stage in run.stages(command):
        with run.stage(name):
            stage(run)


def take_stacks(run: Run, found: Collection[Stack]) -> None:
    """Takes the synthesised stacks."""
    run.stacks = tuple(StackRun(stack) for stack in found)
    order = [{"name": s.name, "layer": s.layer, "depends_on": list(s.stack.dependencies)} for s in run.stacks]
    run.emit(Event("stacks", fields={"stacks": order}))


def selected(run: Run, *, downwards: bool) -> tuple[StackRun, ...]:
    """The stacks of the run in order: for `up` the asked ones and what they need, for `down` them and what needs them.

    Raises:
        UserError: A name or glob names no stack; with `only`, a stack reads one that is neither chosen nor deployed.
    """
    options = run.options
    if not options.layers and not options.stacks:
        return run.stacks
    graph = run.graph
    wanted = graph.matching(options.stacks) if options.stacks else frozenset(graph.order)
    if options.layers:
        wanted &= {stack.name for stack in run.stacks if stack.layer in options.layers}
        if not wanted:
            raise UserError(f"no stack of layer {' or '.join(options.layers)} is named {' or '.join(options.stacks)}")
    if downwards:
        wanted = graph.downstream(wanted)
    elif not options.only:
        wanted = graph.upstream(wanted)
    chosen = tuple(stack for stack in run.stacks if stack.name in wanted)
    for stack in chosen if not downwards else ():
        missing = [name for name in stack.stack.upstreams if name not in wanted and not run.stack(name).state.deployed]
        if missing and run.readable(stack):
            verb = "is" if len(missing) == 1 else "are"
            raise UserError(
                f"it reads {' and '.join(missing)}, which {verb} not deployed",
                where=stack.name,
                hint="Without --only, what it needs comes first.",
            )
    return chosen
