"""Strangers on the VMIDs that a plan creates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.errors import UserError
from labctl.model.inventory import Foreign, GuestEntry, Release, foreign_guests, refuse_foreign

NAS = GuestEntry(201, "nas", "pve", "qemu", "running")
DNS = GuestEntry(202, "dns", "pve2", "lxc", "stopped")


def test_a_stranger_is_found_and_named():
    (found,) = foreign_guests({201: "gitlab", 203: "docker"}, [NAS, DNS], state_vmids=set())
    assert found == Foreign(201, "gitlab", "nas", "pve", "qemu")
    assert str(found) == "VMID 201, wanted for 'gitlab', is taken by VM 'nas' on node 'pve'"


def test_our_own_guest_is_no_stranger():
    assert foreign_guests({201: "gitlab"}, [NAS], state_vmids={201}) == ()


def test_a_stranger_that_the_token_may_not_see():
    (found,) = foreign_guests({201: "gitlab", 202: "docker"}, [], state_vmids=set(), taken={201})
    assert "may not see" in str(found)
    assert found.vmid == 201


def test_the_refusal_names_all():
    with pytest.raises(UserError) as caught:
        refuse_foreign(foreign_guests({202: "docker", 201: "gitlab"}, [NAS, DNS], set()))
    for word in ("201", "'nas'", "'pve'", "202", "container 'dns'", "'pve2'"):
        assert word in caught.value.message
    assert "lab.yaml" in caught.value.hint


def test_nothing_to_refuse():
    refuse_foreign(())


VMIDS = st.sets(st.integers(100, 110))


@given(VMIDS, VMIDS, VMIDS, VMIDS)
def test_foreign_is_what_is_planned_and_there_and_not_ours(planned, seen, ours, hidden):
    guests = [GuestEntry(vmid, f"g{vmid}", "pve", "qemu", "running") for vmid in seen]
    found = foreign_guests(dict.fromkeys(planned, "x"), guests, ours, hidden)
    assert [one.vmid for one in found] == sorted(planned & (seen | hidden) - ours)
    assert all((one.name == f"g{one.vmid}") is (one.vmid in seen) for one in found)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("9.0.10", (9, 0)), ("8.4-1", (8, 4)), ("8.2.2~bpo1", (8, 2)), ("10", (10, 0)), ("odd", (0, 0)), ("", (0, 0))],
)
def test_release(text, numbers):
    assert Release(text).numbers == numbers
