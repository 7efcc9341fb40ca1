"""The rules that a lab adds to labctl's own, under `policy` in `lab.yaml`: what they look like, and what they say of a plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from labctl.model.errors import UserError, nearest
from labctl.model.plan import PlanSummary
from labctl.model.settings import LIST, Name, Settings
from labctl.model.violation import BUILT_IN, Violation

PlanAction = Literal["add", "change", "replace", "destroy", "import", "move", "forget"]
"""The words of `labctl.model.plan.COUNTED`."""

_VERBS = {
    "add": "adds",
    "change": "changes",
    "replace": "replaces",
    "destroy": "destroys",
    "import": "imports",
    "move": "moves",
    "forget": "forgets",
}


class LabRule(Settings):
    """A rule over the plans of a lab. `*` and `?` in a glob stand for any characters and for one."""

    id: Name
    forbid: Annotated[tuple[PlanAction, ...], LIST] = Field((), description="actions that stop the run")
    warn: Annotated[tuple[PlanAction, ...], LIST] = Field((), description="actions that are shown, and the run goes on")
    type: str = Field("*", min_length=1, description="glob over the resource's type")
    address: str = Field("*", min_length=1, description="glob over its address")
    stack: str = Field("*", min_length=1, description="glob over its stack")
    reason: str = Field("", description="why, for whoever meets it")

    @field_validator("id")
    @classmethod
    def _not_built_in(cls, value: str) -> str:
        if value in BUILT_IN:
            raise ValueError(f"{value!r} is a rule of labctl's own; call this one something else")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if bool(self.forbid) == bool(self.warn):
            raise ValueError("a rule has either forbid or warn, with at least one action: " + ", ".join(_VERBS))
        return self


def lab_violations(plan: PlanSummary, rules: Iterable[LabRule]) -> list[Violation]:
    """What the lab's own rules say of a plan: violations, and warnings among them."""
    return [
        _violation(rule, word, change.address)
        for rule in rules
        if _matches(rule.stack, plan.stack)
        for change in plan.changes
        if _matches(rule.type, change.type) and _matches(rule.address, change.address)
        for word in change.words
        if word in (rule.forbid or rule.warn)
    ]


def check_rule_stacks(rules: Iterable[LabRule], stacks: Sequence[str], where: str) -> None:
    """Refuses a rule about a stack that the lab does not have: it would never say anything.

    Args:
        rules: The lab's rules.
        stacks: The names of its stacks.
        where: The file that the rules are in.

    Raises:
        UserError: The nearest name is offered.
    """
    for rule in rules:
        if not any(_matches(rule.stack, stack) for stack in stacks):
            raise UserError(
                f"policy rule {rule.id!r}: there is no stack {rule.stack!r}", where=where, hint=nearest(rule.stack, stacks)
            )


def _violation(rule: LabRule, word: str, address: str) -> Violation:
    sentence = f"the plan {_VERBS[word]} {address}" + (f": {rule.reason}" if rule.reason else "")
    remedy = (
        f"Rule {rule.id!r} in lab.yaml forbids it, also with --allow-destroy: take back what leads to it, or change the rule."
    )
    return Violation(rule.id, address, sentence, "" if rule.warn else remedy, warns=bool(rule.warn))


def _matches(glob: str, text: str) -> bool:
    # Not fnmatch: the brackets in `thing.a["x"]` stand for themselves.
    return re.fullmatch(re.escape(glob).replace(r"\*", ".*").replace(r"\?", "."), text) is not None
