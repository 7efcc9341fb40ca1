"""What `labctl untaint` takes the mark off, and what it says where there is nothing to take off."""

from __future__ import annotations

import pytest

from labctl.engine.untaint import find_tainted
from labctl.model.errors import UserError
from labctl.model.state import StackState

VM = "proxmox_virtual_environment_vm"
FILE = 'proxmox_virtual_environment_file.a["x y"]'
STATES = {
    "foundation": StackState(addresses=frozenset({f"{VM}.vault", FILE}), guests={f"{VM}.vault": "vault"}, tainted=(FILE,)),
    "platform": StackState(
        addresses=frozenset({f"{VM}.gitlab", f"{VM}.docker"}),
        guests={f"{VM}.gitlab": "gitlab", f"{VM}.docker": "docker"},
        tainted=(f"{VM}.gitlab",),
    ),
}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gitlab", ("platform", f"{VM}.gitlab")),
        (f"{VM}.gitlab", ("platform", f"{VM}.gitlab")),
        (FILE, ("foundation", FILE)),
    ],
)
def test_a_guest_or_an_address_that_is_tainted_is_found(name: str, found: tuple[str, str]) -> None:
    assert find_tainted(STATES, name) == found


@pytest.mark.parametrize(
    ("name", "sentence", "hint"),
    [
        ("docker", "platform: docker is not tainted", ""),
        (f"{VM}.vault", f"foundation: {VM}.vault is not tainted", ""),
        ("gitlib", "no guest and no address in the states is called 'gitlib'", "Did you mean 'gitlab'?"),
    ],
)
def test_anything_else_is_told_what_is_tainted(name: str, sentence: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        find_tainted(STATES, name)
    assert str(caught.value) == sentence
    assert f"Tainted: '{FILE}', {VM}.gitlab." in caught.value.hint
    assert hint in caught.value.hint


def test_where_nothing_is_tainted_that_is_said() -> None:
    with pytest.raises(UserError) as caught:
        find_tainted({"foundation": StackState(addresses=frozenset({"a.b"}))}, "a.b")
    assert caught.value.hint == "Nothing is tainted."
