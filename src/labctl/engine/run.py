"""One run over one lab: what its stages share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.adapters.keys import Keyring
from labctl.engine.events import Event, Sink
from labctl.engine.identity import identities
from labctl.engine.interrupt import Interrupts
from labctl.engine.journal import Journal
from labctl.engine.paths import LabPaths
from labctl.model.difference import attribute_changes, reaches_only_new_guests
from labctl.model.errors import LabError
from labctl.model.lab import Lab
from labctl.model.plan import StackPlan
from labctl.model.preflight import Facts
from labctl.model.propagation import PlannedOutputs
from labctl.model.state import StackState

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox
    from labctl.engine.session import LabSession
    from labctl.engine.target import TargetSession
    from labctl.engine.workspace import Toolchain
    from labctl.synth import Stack

Confirm = Callable[["tuple[StackPlan, ...]"], bool]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    Attributes:
        layers: The layers that the run is about, all of the lab's by default.
        only: Leave out what the layers need.
        allow_destroy: Protected guests that may be destroyed or replaced.
        identities: The operator's identity files, besides those that labctl finds by itself.
        confirm: Asked once with the picture of all plans.
        confirm_again: Asked where a later plan goes beyond the confirmed picture.
    """

    layers: tuple[str, ...] = ()
    only: bool = False
    allow_destroy: tuple[str, ...] = ()
    identities: tuple[Path, ...] = ()
    confirm: Confirm = field(default=lambda _plans: True)
    confirm_again: Confirm = field(default=lambda _plans: False)


@dataclass(slots=True)
class StackRun:
    """A stack in this run.

    `plan_file` is the saved plan that `plan` sums up, None for a picture that cannot be applied; `planned` are the outputs that
    the plan leads to, None where it changes nothing.
    """

    stack: Stack
    state: StackState = field(default_factory=StackState)
    plan: StackPlan | None = None
    plan_file: Path | None = None
    planned: PlannedOutputs | None = None
    result: str = "not started"
    applied: bool = False
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.stack.name

    @property
    def layer(self) -> str:
        """The stack's layer."""
        return self.stack.layer

    def planned_outputs(self) -> PlannedOutputs:
        """The stack's outputs as they will be: the plan's, else the state's."""
        return self.planned if self.planned is not None else PlannedOutputs(self.state.outputs or {})


@dataclass(slots=True)
class Run:
    """A run and what its stages have found so far."""

    lab: Lab
    paths: LabPaths
    options: Options
    journal: Journal
    interrupts: Interrupts
    view: Sink
    started: float = field(default_factory=time.monotonic)
    stacks: tuple[StackRun, ...] = ()
    _target: TargetSession | None = None
    _hypervisor: Proxmox | None = None
    _toolchain: Toolchain | None = None
    facts: Facts | None = None
    session: LabSession | None = None
    session_problem: LabError | None = None

    @property
    def keyring(self) -> Keyring:
        """The lab's encrypted key files."""
        return Keyring(self.paths.keys)

    @property
    def identities(self) -> tuple[Path, ...]:
        """The operator's private key files at hand."""
        return identities(self.paths, self.options.identities)

    def connect(self, target: TargetSession, connect: Callable[..., Proxmox]) -> None:
        """Takes the target and connects to its API."""
        self._target = target
        self._hypervisor = connect(target.endpoint, target.token_id, target.token, target.ca_file)

    def disconnect(self) -> None:
        """Closes the connections to the hypervisor."""
        if self._hypervisor is not None:
            self._hypervisor.close()

    def use_toolchain(self, toolchain: Toolchain) -> None:
        """Takes the Terraform engine."""
        self._toolchain = toolchain

    def emit(self, event: Event) -> None:
        """Tells the view and the journal."""
        self.journal.write(event)
        self.view(event)

    def say(self, text: str, stack: str = "", kind: str = "note", **fields: Any) -> None:
        """Tells a line."""
        self.emit(Event(kind, text, stack, fields))

    def stack_stage(self, stack: str, stage: str, text: str = "", **fields: Any) -> None:
        """Tells where a stack is."""
        self.emit(Event("stack", text or stage, stack, {"stage": stage, **fields}))

    def emit_plan(self, plan: StackPlan) -> None:
        """Tells one stack's plan, with each resource that it touches."""
        changes = [
            {"address": c.address, "action": str(c.action), "changes": [a.as_dict() for a in attribute_changes(c)]}
            for c in (plan.summary.changes if plan.summary else ())
        ]
        kept = list(reaches_only_new_guests(plan.summary)) if plan.summary else []
        fields = {"status": str(plan.status), "changes": changes, "only_new_guests": kept}
        self.emit(Event("stack_plan", stack=plan.stack, fields=fields))

    def emit_picture(self, plans: tuple[StackPlan, ...]) -> None:
        """Tells all plans; the last line of `labctl plan --json`."""
        self.emit(Event("plan", fields={"stacks": [plan.as_dict() for plan in plans]}))

    def ask(self, question: Confirm, plans: tuple[StackPlan, ...]) -> bool:
        """Asks, and leaves the time of thinking out of the run's."""
        self.interrupts.check()
        began = time.monotonic()
        try:
            return question(plans)
        finally:
            self.started += time.monotonic() - began

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Marks a stage of the run; stops before it when a signal came."""
        self.interrupts.check()
        began = time.monotonic()
        self.view(Event("stage", name, fields={"state": "begin"}))
        yield
        self.journal.write(Event("stage", name, fields={"state": "end", "seconds": round(time.monotonic() - began, 3)}))

    @property
    def target(self) -> TargetSession:
        """The hypervisor's address and credentials, after stage `target`."""
        assert self._target is not None
        return self._target

    @property
    def hypervisor(self) -> Proxmox:
        """The hypervisor's API, after stage `target`."""
        assert self._hypervisor is not None
        return self._hypervisor

    @property
    def toolchain(self) -> Toolchain:
        """The Terraform engine and provider, after stage `engine`."""
        assert self._toolchain is not None
        return self._toolchain

    def stack(self, name: str) -> StackRun:
        """One stack by name."""
        return next(stack for stack in self.stacks if stack.name == name)

    def outputs(self, stack: str) -> Mapping[str, Any]:
        """A stack's outputs as its state has them; empty where it is not deployed."""
        return self.stack(stack).state.outputs or {}
