"""What a rule says of a plan, and the list of labctl's own rules: the same for people (docs/policy.md) and for code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a plan breaks.

    Attributes:
        rule: The rule's id.
        address: The resource that it is about.
        sentence: What the plan does.
        remedy: What to do about it.
        consent: What `--allow-destroy` would have to name; "" where no consent helps.
        warns: It is shown and the run goes on.
    """

    rule: str
    address: str
    sentence: str
    remedy: str
    consent: str = ""
    warns: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One of labctl's own rules: its id, what it refuses, and what to do then."""

    id: str
    refuses: str
    remedy: str


RULES: tuple[Rule, ...] = (
    Rule(
        "foreign-guest",
        "a plan that creates a guest under a VMID that somebody else's guest has",
        "another `vmid` in lab.yaml, or move the other guest",
    ),
    Rule(
        "protected-guest",
        "a plan that destroys or replaces a guest of the lab",
        "`--allow-destroy NAME`",
    ),
    Rule(
        "stateful-resource",
        "a plan that destroys or replaces any other resource whose data goes with it",
        "`--allow-destroy ADDRESS`",
    ),
    Rule(
        "tainted-guest",
        "a plan that destroys such a guest or resource and makes it anew only because Terraform has it marked as tainted",
        "`labctl untaint NAME`, which keeps it; or `--allow-destroy NAME`",
    ),
    Rule(
        "disk-shrink",
        "a plan that makes a disk smaller",
        "`disk_gib` as it was, or more",
    ),
)

BUILT_IN = frozenset(rule.id for rule in RULES)
