"""What was confirmed is what happens: compares a later plan with the picture that was confirmed."""

from __future__ import annotations

from labctl.model.plan import Action, StackPlan, StackStatus

_HARMLESS = {Action.NOTHING: 0, Action.READ: 0}
_SEVERITY = {**_HARMLESS, Action.FORGET: 1, Action.CREATE: 1, Action.UPDATE: 2, Action.REPLACE: 3, Action.DELETE: 3}


def beyond(confirmed: StackPlan | None, actual: StackPlan) -> tuple[str, ...]:
    """Sentences for each action of `actual` that `confirmed` does not cover.

    An action is covered when the same address was there with the same or a worse action. A stack that was shown as not deployed
    covers every create, and nothing else.
    """
    if actual.summary is None:
        return ()
    known = {change.address: change.action for change in confirmed.summary.changes} if confirmed and confirmed.summary else None
    new_stack = confirmed is not None and confirmed.status is StackStatus.NOT_DEPLOYED
    found = []
    for change in actual.summary.changes:
        if new_stack and change.action is Action.CREATE:
            continue
        before = (known or {}).get(change.address)
        if before is None:
            found.append(f"{change.address}: {change.action}, which the confirmed plan does not have")
        elif change.action is not before and _SEVERITY[change.action] >= _SEVERITY[before]:
            found.append(f"{change.address}: {change.action}, confirmed was {before}")
    return tuple(found)
