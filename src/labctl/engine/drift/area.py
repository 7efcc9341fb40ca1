"""What an area of the world that is looked at collects: one read that fails hides nothing of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.model.drift import AreaDrift, Finding
from labctl.model.errors import LabError

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun

_T = TypeVar("_T")


@dataclass(slots=True)
class Looking:
    """An area that is being looked at.

    Attributes:
        name: The area.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looked: int = 0
    began: float = field(default_factory=time.monotonic)

    def read(self, what: str, read: Callable[[], _T]) -> _T | None:
        """What `read` gives; None where it fails, which becomes a problem."""
        try:
            return read()
        except LabError as error:
            self.problem(what, error)
            return None

    def problem(self, what: str, error: LabError) -> None:
        """Takes down what could not be looked at, why, and what to do."""
        self.problems.append(f"{what}: {error.told}")

    def add(self, looked: int, findings: Iterable[Finding], notes: Iterable[str] = ()) -> None:
        """Takes down what came of comparing `looked` things."""
        self.looked += looked
        self.findings += findings
        self.notes += notes

    def told(self) -> AreaDrift:
        """What came of it."""
        seconds = round(time.monotonic() - self.began, 3)
        return AreaDrift(self.name, tuple(self.findings), tuple(self.problems), tuple(self.notes), self.looked, seconds)


def deployed_outputs(run: LabRun) -> dict[str, Mapping[str, Any]]:
    """The outputs of each stack that is deployed."""
    return {stack.name: stack.state.outputs or {} for stack in run.stacks if stack.state.deployed}


def deployed_layers(run: LabRun) -> frozenset[str]:
    """The layers of which something is deployed."""
    return frozenset(stack.layer for stack in run.stacks if stack.state.deployed)
