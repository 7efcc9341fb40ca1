"""Decides what a Vault needs next. Pure: a situation goes in, the actions that are left come out.

`up` can be killed between any two actions; the next one looks at the situation again and goes on from there. Two orders make that
safe. A note is left before the initialisation and the keys are kept right after it, so a Vault whose keys were lost on the way is
known to be empty. And the root token is revoked only once labctl has logged in with credentials that were kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from labctl.model.errors import UserError


class Action(StrEnum):
    """One thing to do; its text is what people see while it is done."""

    RETIRE = "setting the keys of an earlier Vault aside"
    RESET = "emptying a Vault whose initialisation was cut off"
    MARK = "noting that the initialisation begins"
    INITIALISE = "initialising, and keeping the keys"
    UNMARK = "noting that the keys are kept"
    UNSEAL = "unsealing"
    CONFIGURE = "checking audit, logins, mount, policies and roles"
    SEED = "generating the secrets that are absent"
    KEEP_OPERATOR = "making labctl's own credentials"
    LOGIN = "logging in"
    REVOKE_ROOT = "revoking the root token"
    FORGET_ROOT = "removing the revoked root token from the keys"


class Root(Enum):
    """What is known of the root token that the kept keys name."""

    NONE = "the keys name none"
    UNKNOWN = "there is one; the Vault is sealed, so it cannot be tried"
    LIVE = "there is one, and it works"
    REVOKED = "there is one, and it is refused"


class Operator(Enum):
    """What is known of labctl's own credentials."""

    NONE = "not kept"
    KEPT = "kept"
    REFUSED = "kept, and refused at a login"


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that the decision rests on.

    Attributes:
        initialised: The Vault has keys.
        sealed: It needs them.
        keys_kept: The lab's folder has them.
        root: What is known of the root token.
        operator: What is known of labctl's own credentials.
        marked: The note of a begun initialisation of this Vault lies there.
        done: What this run has done already.
        half: It refuses to be initialised, because its storage was prepared already when an initialisation was cut off.
    """

    initialised: bool
    sealed: bool
    keys_kept: bool
    root: Root = Root.NONE
    operator: Operator = Operator.NONE
    marked: bool = False
    done: frozenset[Action] = field(default_factory=frozenset)
    half: bool = False


def vault_actions(situation: Situation) -> tuple[Action, ...]:
    """The actions that are left, in order; none when the Vault is ready and labctl is logged in.

    Raises:
        UserError: The keys or labctl's credentials are missing, and nothing shows that the Vault is empty. It is not reset then.
    """
    s = situation
    if not s.initialised:
        stale = s.keys_kept or s.operator is not Operator.NONE
        begin = ((Action.RETIRE,) if stale else ()) + (() if s.marked else (Action.MARK,))
        begin += (Action.RESET,) if s.half else ()
        return (*begin, Action.INITIALISE, Action.UNMARK, Action.UNSEAL, *_FIRST_TIME)
    if not s.keys_kept:
        if s.marked and s.sealed:
            return (Action.RESET, Action.INITIALISE, Action.UNMARK, Action.UNSEAL, *_FIRST_TIME)
        raise UserError(
            "the Vault is initialised, but its keys are not in the lab's folder",
            hint="Copy the folder keys/ from where the lab was brought up. A Vault that may hold secrets is never reset.",
        )
    head = ((Action.UNMARK,) if s.marked else ()) + ((Action.UNSEAL,) if s.sealed else ())
    return (*head, *_rest(s))


_FIRST_TIME = (
    Action.CONFIGURE,
    Action.SEED,
    Action.KEEP_OPERATOR,
    Action.LOGIN,
    Action.REVOKE_ROOT,
    Action.FORGET_ROOT,
)


def _rest(s: Situation) -> tuple[Action, ...]:
    if s.root in (Root.LIVE, Root.UNKNOWN):
        kept = s.operator is Operator.KEPT
        steps = tuple(a for a in _FIRST_TIME if not (a is Action.KEEP_OPERATOR and kept))
    elif s.operator is not Operator.KEPT:
        raise UserError(
            f"labctl's own credentials for the Vault are {s.operator.value}, and the root token is revoked",
            hint="Generate a new root token with the unseal key: docs/secrets.md, 'When labctl cannot log in'.",
        )
    else:
        forget = (Action.FORGET_ROOT,) if s.root is Root.REVOKED else ()
        steps = (Action.LOGIN, *forget, Action.CONFIGURE, Action.SEED)
    return tuple(action for action in steps if action not in s.done)


def proves_unused(audit_log: str) -> bool:
    """Whether the audit log of a Vault shows that nobody ever sent it a request.

    An initialisation alone writes one entry, the test of the audit device itself.
    """
    for line in audit_log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            return False
        if not isinstance(entry, dict) or entry.get("request", {}).get("path") != "sys/audit/test":
            return False
    return True
