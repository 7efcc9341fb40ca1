"""The graph of stacks with their status, and its drawings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.adapters.graphviz import svg
from labctl.engine.lab import OpenLab
from labctl.engine.preparing import prepare
from labctl.engine.run import Options
from labctl.engine.session import local_state
from labctl.engine.stages import stack_context
from labctl.engine.start import starting_app
from labctl.engine.status import stack_states
from labctl.model.drawing import DEPLOYED, NOT_DEPLOYED, UNKNOWN, Node, as_dot, as_mermaid, as_tree
from labctl.model.errors import LabError, UserError
from labctl.model.stackcontext import StackContext
from labctl.synth import Stack, read_manifest

FORMATS: dict[str, Callable[[Sequence[Node], int], str]] = {
    "text": lambda nodes, columns: "".join(f"{line}\n" for line in as_tree(nodes, columns)),
    "mermaid": lambda nodes, _columns: as_mermaid(nodes),
    "dot": lambda nodes, _columns: as_dot(nodes),
    "svg": lambda nodes, _columns: svg(as_dot(nodes)),
}
"""What draws any stacks, a lab's or another project's, by the name of the format."""


@dataclass(frozen=True, slots=True)
class DrawnGraph:
    """The stacks of a lab or a project, each after those that it needs; `problems` say what could not be read."""

    name: str
    nodes: tuple[Node, ...]
    problems: tuple[str, ...]


def lab_graph(found: OpenLab, named: Sequence[Path] = ()) -> DrawnGraph:
    """The stacks of the last synthesis with their status; a lab that was never synthesised is, beside its folder.

    Raises:
        UserError: The stacks' code fails.
    """
    stacks = _stacks(found)
    status, problems = _status(found, stacks, named)
    nodes = tuple(Node(stack.name, stack.layer, stack.dependencies, status[stack.name]) for stack in stacks)
    return DrawnGraph(found.lab.name, nodes, tuple(problems))


def app_graph(folder: Path) -> DrawnGraph:
    """The stacks of a CDKTF project with their status.

    Raises:
        LabError: The project cannot be synthesised, or a state not be read.
    """
    with starting_app("graph", folder, Options(), lambda _event: None) as run:
        prepare(run, "graph")
        nodes = tuple(
            Node(one.name, one.layer, one.stack.dependencies, DEPLOYED if one.state.deployed else NOT_DEPLOYED)
            for one in run.stacks
        )
        return DrawnGraph(run.name, nodes, ())


def _stacks(found: OpenLab) -> tuple[Stack, ...]:
    try:
        return read_manifest(found.paths.root)
    except UserError:
        return _synthesised(found)


def _synthesised(found: OpenLab) -> tuple[Stack, ...]:
    """The stacks, without writing into the lab's folder, where a run may be at work."""
    from labctl.synth import synthesise

    real = stack_context(found.lab, found.paths)
    with tempfile.TemporaryDirectory(prefix="labctl-") as folder:
        return synthesise(StackContext(real.lab, real.authority_pem, real.state_dir, Path(folder))).stacks


def _status(found: OpenLab, stacks: Sequence[Stack], named: Sequence[Path]) -> tuple[dict[str, str], list[str]]:
    """Each stack's status. One whose state is out of reach is unknown; where foundation is not up, the others cannot be."""
    problems: list[str] = []
    try:
        states = {stack.name: state for stack, state in stack_states(found, named, problems)}
        floating = not local_state(found.paths, "foundation").deployed
    except LabError as error:
        return {stack.name: UNKNOWN for stack in stacks}, [f"the states cannot be read: {error.told}"]
    missing = NOT_DEPLOYED if floating and not problems else UNKNOWN
    if missing == UNKNOWN and not problems and any(stack.name not in states for stack in stacks):
        problems.append("foundation does not say where the Vault is. Run `labctl up`.")
    return {
        stack.name: missing if stack.name not in states else DEPLOYED if states[stack.name].deployed else NOT_DEPLOYED
        for stack in stacks
    }, problems
