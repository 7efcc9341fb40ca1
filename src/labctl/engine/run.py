"""One run over stacks: what its stages share, and what a project of stacks must know for it."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.engine.events import Event, Sink
from labctl.engine.interrupt import Interrupts
from labctl.engine.journal import Journal
from labctl.engine.paths import RunPaths
from labctl.model.errors import LabError
from labctl.model.graph import Graph, make_graph
from labctl.model.plan import StackPlan
from labctl.model.propagation import PlannedOutputs
from labctl.model.state import StackState

if TYPE_CHECKING:
    from labctl.adapters.terraform import Terraform
    from labctl.engine.workspace import Toolchain
    from labctl.synth import Stack

DEFAULT_WORKSPACE = "default"
Confirm = Callable[["tuple[StackPlan, ...]"], bool]
Stage = tuple[str, Callable[[Any], None]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    Attributes:
        layers: The layers that the run is about, all by default.
        stacks: Names and globs of stacks that the run is about, all by default.
        only: Leave out what these need.
        allow_destroy: Protected guests that may be destroyed or replaced.
        identities: The operator's identity files, besides those that labctl finds by itself.
        confirm: Asked once with the picture of all plans.
        confirm_again: Asked where a later plan goes beyond the confirmed picture.
        assume_yes: Nobody is asked.
        parallelism: How many stacks at once; 0 leaves it to labctl.
        fail_fast: Nothing new starts once a stack has failed.
        resynthesise: Synthesise even if nothing seems to have changed.
        save: Keep the plans, to apply them later.
        saved_plan: The run whose kept plans are to be applied, exactly those.
    """

    layers: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    only: bool = False
    allow_destroy: tuple[str, ...] = ()
    identities: tuple[Path, ...] = ()
    confirm: Confirm = field(default=lambda _plans: True)
    confirm_again: Confirm = field(default=lambda _plans: False)
    assume_yes: bool = False
    parallelism: int = 0
    fail_fast: bool = False
    resynthesise: bool = False
    save: bool = False
    saved_plan: str = ""

    def selection(self) -> dict[str, Any]:
        """What a later run needs to do the same."""
        chosen = {"layers": self.layers, "stacks": self.stacks, "allow_destroy": self.allow_destroy}
        return {name: list(values) for name, values in chosen.items() if values} | ({"only": True} if self.only else {})


@dataclass(slots=True)
class StackRun:
    """A stack in this run.

    Attributes:
        stack: The stack as synthesised.
        state: What its state says.
        plan: What is planned.
        plan_file: The saved plan that `plan` sums up, None for a picture that cannot be applied.
        planned: The outputs that the plan leads to, None where it changes nothing.
        result: How it ended; see `labctl.model.report`.
        applied: Whether this run changed it.
        unplanned: The counts of an apply without a plan.
        error: Why it failed.
        blame: The stack whose failure blocks it.
        phases: Seconds by what was done.
        began_s: When its apply began, in seconds since the run's start; None before that. `ended_s` likewise.
        init_lock: Held by who looks whether an `init` is needed, and runs it.
    """

    stack: Stack
    state: StackState = field(default_factory=StackState)
    plan: StackPlan | None = None
    plan_file: Path | None = None
    planned: PlannedOutputs | None = None
    result: str = "not started"
    applied: bool = False
    unplanned: Mapping[str, int] = field(default_factory=dict)
    error: LabError | None = None
    blame: str = ""
    phases: dict[str, float] = field(default_factory=dict)
    began_s: float | None = None
    ended_s: float | None = None
    init_lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.stack.name

    @property
    def layer(self) -> str:
        """The stack's layer."""
        return self.stack.layer

    @property
    def seconds(self) -> float:
        """Seconds of work on it."""
        return sum(self.phases.values())

    def planned_outputs(self) -> PlannedOutputs:
        """The stack's outputs as they will be: the plan's, else the state's."""
        return self.planned if self.planned is not None else PlannedOutputs(self.state.outputs or {})

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Adds the seconds of the block to a phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[phase] = self.phases.get(phase, 0.0) + time.monotonic() - began


@dataclass(slots=True)
class Run(ABC):
    """A run, and what its stages have found so far. The kinds of projects that can be run are its subclasses."""

    paths: RunPaths
    options: Options
    journal: Journal
    interrupts: Interrupts
    view: Sink
    started: float = field(default_factory=time.monotonic)
    stacks: tuple[StackRun, ...] = ()
    _toolchain: Toolchain | None = None

    # -- what a project knows ------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def name(self) -> str:
        """The project's name."""

    @property
    @abstractmethod
    def work_folders(self) -> Path:
        """The folder with each stack's own."""

    @abstractmethod
    def stages(self, command: str) -> tuple[Stage, ...]:
        """What is done before the plans of `up`, `plan` or `down`, in order."""

    @abstractmethod
    def terraform(self, stack: StackRun, folder: Path | None = None) -> Terraform:
        """Terraform in the stack's folder, or in a scratch copy of it, with the environment that it needs. Not initialised."""

    @abstractmethod
    def readable(self, stack: StackRun) -> bool:
        """Whether the stack's own state and those of its upstreams can be read now."""

    @abstractmethod
    def unreadable_reason(self) -> str:
        """Why not."""

    @abstractmethod
    def read_state(self, stack: StackRun) -> StackState:
        """The stack's state as it is stored now."""

    @abstractmethod
    def state_content(self, stack: StackRun) -> bytes | None:
        """The stack's state document as it is stored now, None where there is none."""

    @abstractmethod
    def mend(self, stack: StackRun) -> None:
        """Before a plan: takes back a dead run's lock.

        Raises:
            TerraformError: The state is locked by somebody else.
        """

    @abstractmethod
    def take_over(self, stack: StackRun) -> None:
        """Before a stack is planned again in its turn: enters into its state what a cut-off run made."""

    @abstractmethod
    def gone(self, stack: StackRun) -> frozenset[str]:
        """Addresses in the stack's state that went with something that is no longer there, and that its provider cannot read."""

    def refreshes(self, stack: StackRun) -> bool:  # noqa: ARG002 - elsewhere it depends on the stack
        """Whether a plan can look at what the stack's resources are now."""
        return True

    @abstractmethod
    def judge(self, stack: StackRun) -> None:
        """Holds a stack's plan against the rules.

        Raises:
            UserError: The plan breaks a rule.
        """

    @abstractmethod
    def finish(self, stack: StackRun) -> list[str]:
        """After a stack is as planned: checks what it publishes and runs its steps; returns what they changed, a line each."""

    @abstractmethod
    def before_down(self, stacks: Sequence[StackRun]) -> None:
        """Before the plans of `down`: makes states readable that are not."""

    @abstractmethod
    def close(self) -> None:
        """At the end of the run: ends logins, closes connections."""

    @abstractmethod
    def destroyed(self, stack: StackRun) -> None:
        """After a stack is gone."""

    def workspace(self, stack: StackRun) -> str:  # noqa: ARG002 - elsewhere it depends on the stack
        """The Terraform workspace that the stack's state lies in."""
        return DEFAULT_WORKSPACE

    @property
    def owns_backends(self) -> bool:
        """Whether a changed backend is simply taken. Elsewhere it is the user's to say what becomes of the state."""
        return False

    @property
    def may_skip_picture(self) -> bool:
        """Whether stacks that were never deployed may be applied without a plan of their own where nobody is asked."""
        return False

    @property
    def inits_ahead(self) -> bool:
        """Whether a stack's `init` works before those that it needs are up: not where one of them holds its state."""
        return False

    def init_turn(self) -> AbstractContextManager[object]:
        """Held during each `init`, for projects that cannot have two at the same time."""
        return nullcontext()

    # -- what all share ------------------------------------------------------------------------------------------------

    def use_toolchain(self, toolchain: Toolchain) -> None:
        """Takes the Terraform engine."""
        self._toolchain = toolchain

    @property
    def toolchain(self) -> Toolchain:
        """The Terraform engine and provider, after the stage that finds them."""
        assert self._toolchain is not None
        return self._toolchain

    @property
    def graph(self) -> Graph:
        """The stacks with what they need."""
        return make_graph({stack.name: stack.stack.dependencies for stack in self.stacks})

    @property
    def parallelism(self) -> int:
        """How many stacks at once."""
        from labctl.engine.scheduler import default_parallelism

        return self.options.parallelism or default_parallelism()

    def clock(self) -> float:
        """Seconds since the run's start."""
        return time.monotonic() - self.started

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
        from labctl.model.difference import attribute_changes, reaches_only_new_guests

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

    def stack(self, name: str) -> StackRun:
        """One stack by name."""
        return next(stack for stack in self.stacks if stack.name == name)

    def outputs(self, stack: str) -> Mapping[str, Any]:
        """A stack's outputs as its state has them; empty where it is not deployed."""
        return self.stack(stack).state.outputs or {}
