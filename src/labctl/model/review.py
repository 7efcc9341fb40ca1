"""What a change of a lab's repository means for its stacks: which are concerned and why, and what becomes of each. Pure."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from labctl.model.plan import Action, StackPlan, StackStatus
from labctl.model.violation import Violation

DESCRIPTION = "its description"
"""The reason of a stack whose Terraform JSON differs."""

_MADE_FROM = re.compile(
    r"(^|/)(stacks|layers|labctl/model|labctl/cloudinit|labctl/services|labctl/synth)/|(^|/)(cdktf\.json|pyproject\.toml|uv\.lock)$"
)
_RELATIVE = re.compile(r"(?:\.\./)+[\w.+@/-]+")


@dataclass(frozen=True, slots=True)
class Change:
    """What a change concerns.

    Attributes:
        reasons: Each concerned stack with why: `DESCRIPTION`, or the files of its sources.
        gone: Stacks that the base has and the change has no more.
        others: Changed files that no stack is made from.
        caveat: Why more stacks may count as concerned than are; "" where exactly these are.
    """

    reasons: Mapping[str, tuple[str, ...]]
    gone: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    caveat: str = ""


def compare(
    before: Mapping[str, str], after: Mapping[str, str], files: Sequence[str], places: Mapping[str, str], lab_file: str
) -> Change:
    """What differs between two syntheses of a lab, and in the sources that its stacks name.

    Args:
        before: The base's document of each stack.
        after: The work tree's.
        files: The changed files, from the top of the repository.
        places: The folder of each stack's document, from there too.
        lab_file: The lab's description, likewise.
    """
    reasons: dict[str, tuple[str, ...]] = {}
    used: set[str] = set()
    for name, text in after.items():
        sources = tuple(path for path in files if _below(path, referred(text, places[name])))
        used.update(sources)
        differs = before.get(name) is None or json.loads(before[name]) != json.loads(text)
        if differs or sources:
            reasons[name] = (*((DESCRIPTION,) if differs else ()), *sources)
    # Which file made a description differ, nobody can tell: none of those that may have is called idle.
    differing = any(DESCRIPTION in reason for reason in reasons.values())
    idle = tuple(path for path in files if path not in used and not (differing and _made_from(path, lab_file)))
    return Change(reasons, gone=tuple(sorted(before.keys() - after.keys())), others=idle)


def by_files(after: Iterable[str], files: Sequence[str], lab_file: str, why: str) -> Change:
    """What may be concerned, where the base cannot be synthesised: all stacks, if any file changed that a stack is made from."""
    made = [path for path in files if _made_from(path, lab_file)]
    others = tuple(path for path in files if path not in made)
    caveat = f"Of the base, {why}. So every stack counts as changed where a file changed that stacks are made from."
    return Change({name: tuple(made) for name in after} if made else {}, others=others, caveat=caveat)


def referred(document: str, place: str) -> frozenset[str]:
    """The paths that a stack's document names by the way from its folder, from the top of the repository."""
    found = (posixpath.normpath(posixpath.join(place, path)) for path in _RELATIVE.findall(document))
    # What is one level above all is no source: every file would lie below it.
    return frozenset(path for path in found if not path.startswith("..") and path != ".")


def _made_from(path: str, lab_file: str) -> bool:
    return path == lab_file or _MADE_FROM.search(path) is not None


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


class Why(StrEnum):
    """Why a stack is in a review."""

    CHANGED = "changed here"
    FOLLOWS = "follows"
    NEEDED = "needed"


@dataclass(frozen=True, slots=True)
class ReviewedStack:
    """A stack in a review.

    Attributes:
        plan: Its plan.
        why: Why it is there.
        reasons: Of a changed one, what changed.
        violations: The rules that its plan breaks, and warnings.
        hint: What to do about a plan that could not be made.
    """

    plan: StackPlan
    why: Why
    reasons: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()
    hint: str = ""

    @property
    def refused(self) -> bool:
        """Whether `labctl up` would refuse the plan."""
        return any(not one.warns for one in self.violations)

    @property
    def planned(self) -> bool:
        """Whether there is a plan."""
        return self.plan.status not in (StackStatus.ERROR, StackStatus.BLOCKED)


@dataclass(frozen=True, slots=True)
class Review:
    """A review of a change.

    Attributes:
        lab: The lab's name.
        base: The commit that the change is against.
        head: The commit that was reviewed.
        change: What it concerns.
        stacks: The concerned stacks and what goes with them, in order.
        artifact: Whether the plans were kept as an artifact.
    """

    lab: str
    base: str
    head: str
    change: Change
    stacks: tuple[ReviewedStack, ...] = ()
    artifact: bool = False

    @property
    def fine(self) -> bool:
        """Whether every plan could be made, and breaks no rule."""
        return all(stack.planned and not stack.refused for stack in self.stacks)


def widget(plans: Iterable[StackPlan]) -> dict[str, int]:
    """GitLab's Terraform report: counts only, a replacement is a deletion and a creation.

    Source: GitLab, "CI/CD artifacts reports types", `artifacts:reports:terraform`.
    """
    summaries = [plan.summary for plan in plans if plan.summary is not None]

    def count(*actions: Action) -> int:
        return sum(summary.count(action) for summary in summaries for action in actions)

    return {
        "create": count(Action.CREATE, Action.REPLACE),
        "update": count(Action.UPDATE),
        "delete": count(Action.DELETE, Action.REPLACE),
    }
