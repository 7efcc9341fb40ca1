from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.cloudinit.part import Account, GuestFile, Part, merge
from labctl.model.errors import LabError

NAMES = st.sampled_from(["a", "b", "c", "d"])


# A value follows from its name, so that two generated parts never contradict each other.
def _file(name: str) -> GuestFile:
    return GuestFile(f"/{name}", name * 3)


PARTS = st.builds(
    Part,
    settings=st.lists(NAMES).map(lambda names: {name: name * 2 for name in names}),
    accounts=st.lists(NAMES, unique=True).map(lambda names: tuple(Account(name) for name in names)),
    packages=st.lists(NAMES).map(tuple),
    files=st.lists(NAMES, unique=True).map(lambda names: tuple(_file(name) for name in names)),
    commands=st.lists(NAMES | st.tuples(NAMES, NAMES)).map(tuple),
)


@given(PARTS, PARTS, PARTS)
def test_merging_is_associative(a: Part, b: Part, c: Part) -> None:
    assert merge((merge((a, b)), c)) == merge((a, merge((b, c)))) == merge((a, b, c))


@given(PARTS)
def test_an_empty_part_changes_nothing(part: Part) -> None:
    assert merge((Part(), part)) == merge((part, Part())) == merge((part,))


@given(st.lists(PARTS))
def test_nothing_is_lost_and_lists_keep_their_order(parts: list[Part]) -> None:
    merged = merge(parts)
    assert list(merged.commands) == [command for part in parts for command in part.commands]
    assert list(merged.packages) == list(dict.fromkeys(name for part in parts for name in part.packages))
    assert list(merged.files) == list(dict.fromkeys(file for part in parts for file in part.files))
    assert list(merged.accounts) == list(dict.fromkeys(account for part in parts for account in part.accounts))
    assert merged.settings == {key: value for part in parts for key, value in part.settings.items()}


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (Part(settings={"timezone": "Etc/UTC"}), Part(settings={"timezone": "Europe/Berlin"}), "timezone"),
        (Part(settings={"ssh_pwauth": False}), Part(settings={"ssh_pwauth": "no"}), "ssh_pwauth"),
        (Part(files=(GuestFile("/a", "1"),)), Part(files=(GuestFile("/a", "2"),)), "/a"),
        (Part(files=(GuestFile("/a", "1"),)), Part(files=(GuestFile("/a", "1", mode="0600"),)), "/a"),
        (Part(accounts=(Account("ops"),)), Part(accounts=(Account("ops", system=True),)), "ops"),
    ],
)
def test_a_contradiction_is_refused_by_name(first: Part, second: Part, named: str) -> None:
    with pytest.raises(LabError, match=named):
        merge((first, second))
