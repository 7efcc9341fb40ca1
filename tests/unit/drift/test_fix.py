"""When one resource may be applied again by itself, and when it takes an `up`."""

from __future__ import annotations

import pytest

from labctl.engine.drift.fix import find_address, refuse_more
from labctl.model.drift import Finding, Kind
from labctl.model.errors import UserError
from labctl.model.plan import Action, PlanSummary, ResourceChange
from labctl.model.state import StackState

STATES = {"a": StackState(addresses=frozenset({"vm.one", "vm.two"})), "b": StackState(addresses=frozenset({"vm.two"}))}


def summary(*changes: tuple[str, Action]) -> PlanSummary:
    return PlanSummary("a", tuple(ResourceChange(address, "vm", address, action) for address, action in changes))


def finding(kind: Kind) -> Finding:
    return Finding("terraform", kind, "vm.one", "differs")


def test_one_change_in_place_of_what_drifted_is_fine() -> None:
    refuse_more("platform", "vm.one", summary(("vm.one", Action.UPDATE)), (finding(Kind.CHANGED),))


REFUSED = [
    (summary(), (), "nothing drifted"),
    (summary(("vm.one", Action.UPDATE)), (finding(Kind.PENDING),), "nothing drifted"),
    (summary(("vm.one", Action.UPDATE)), (finding(Kind.CHANGED), finding(Kind.PENDING)), "the code changed there too"),
    (summary(("vm.one", Action.CREATE)), (finding(Kind.MISSING),), "it was deleted"),
    (summary(("vm.one", Action.UPDATE), ("vm.two", Action.UPDATE)), (finding(Kind.CHANGED),), "would touch vm.two too"),
    (summary(("vm.one", Action.REPLACE)), (finding(Kind.CHANGED),), "would replace it"),
]


@pytest.mark.parametrize(("plan", "findings", "said"), REFUSED)
def test_anything_more_is_refused(plan: PlanSummary, findings: tuple[Finding, ...], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        refuse_more("platform", "vm.one", plan, findings)
    assert caught.value.hint


def test_an_address_is_found_in_its_stack() -> None:
    assert find_address(STATES, "vm.one") == ("a", "vm.one")
    assert find_address(STATES, "b:vm.two") == ("b", "vm.two")
    with pytest.raises(UserError, match="several stacks"):
        find_address(STATES, "vm.two")
    with pytest.raises(UserError) as caught:
        find_address(STATES, "vm.onn")
    assert "Did you mean 'vm.one'?" in caught.value.hint
