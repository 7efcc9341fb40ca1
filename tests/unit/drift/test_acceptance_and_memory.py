"""What is let be, until when; and what is new, still there and gone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.engine.drift.accepting import accept, read_acceptances
from labctl.engine.drift.history import KEEP_REPORTS, Memory, load_memory, reports, save_check
from labctl.engine.paths import LabPaths
from labctl.model.drift import Change, DriftReport, Finding, Kind
from labctl.model.drift.acceptance import Acceptance, hold_against, parse_drift_file
from labctl.model.drift.memory import Remembered, remember, remembered
from labctl.model.errors import UserError

DAY = date(2027, 3, 1)
AT = datetime(2027, 3, 1, 3, tzinfo=UTC)


def finding(name: str = "vm.gitlab", stack: str = "platform", *paths: str, area: str = "terraform") -> Finding:
    return Finding(area, Kind.CHANGED, name, "differs", stack=stack, changes=tuple(Change(path, 1, 2) for path in paths))


def entry(name: str, attribute: str = "", until: date = DAY) -> Acceptance:
    return Acceptance(id=name, attribute=attribute, reason="a trial", until=until)


COVERS = [
    (entry("vm.gitlab"), True),
    (entry("vm.*"), True),
    (entry("platform:vm.gitlab"), True),
    (entry("foundation:vm.gitlab"), False),
    (entry("vm.docker"), False),
    (entry("vm.gitlab", "tags"), True),
    (entry("vm.gitlab", "t*"), True),
    (entry("vm.gitlab", "memory"), False),
]


@pytest.mark.parametrize(("one", "covers"), COVERS)
def test_an_entry_covers_by_address_and_by_every_attribute(one: Acceptance, covers: bool) -> None:
    assert one.covers(finding("vm.gitlab", "platform", "tags")) is covers


def test_an_entry_for_one_attribute_does_not_hide_another() -> None:
    assert not entry("vm.gitlab", "tags").covers(finding("vm.gitlab", "platform", "tags", "memory"))
    assert not entry("vm.gitlab", "tags").covers(finding("vm.gitlab"))


def test_brackets_in_an_address_stand_for_themselves() -> None:
    one = finding('vm.many["a"]', "platform", "disk[1].size")
    assert entry('vm.many["a"]', "disk[1].size").covers(one)
    assert not entry("vm.many[ab]").covers(finding("vm.manya"))


def test_an_entry_counts_on_its_last_day_and_is_over_on_the_next() -> None:
    ((judged,), _) = hold_against([finding()], (entry("vm.gitlab"),), DAY)
    assert judged.accepted is not None
    ((judged,), unused) = hold_against([finding()], (entry("vm.gitlab"),), DAY + timedelta(days=1))
    assert (judged.accepted, judged.expired is not None, unused) == (None, True, ())


def test_a_valid_entry_wins_over_one_that_ran_out_and_one_about_nothing_is_told() -> None:
    old, new, other = entry("vm.*", until=date(2020, 1, 1)), entry("vm.gitlab"), entry("vm.nothing")
    ((judged,), unused) = hold_against([finding()], (old, new, other), DAY)
    assert (judged.accepted, judged.expired, unused) == (new, None, (other,))


BAD = [
    ("accept: 3", "drift.yaml:1: accept: found 3, allowed: a list"),
    ("- a", "drift.yaml:1: found a list at the top, allowed: the keys accept"),
    ("accept:\n  - id: a\n    reason: x\n    untill: 2027-01-01\n", "drift.yaml:2: accept.0.until is missing"),
    ("accept:\n  - id: a\n    reason: x\n    until: soon\n", "drift.yaml:4: accept.0.until: found 'soon', allowed: a day as"),
    ("accept:\n  - id: a\n    reason: x\n    until: 5\n", "drift.yaml:4: accept.0.until: found 5, allowed: a day as"),
    ("accept: [", "drift.yaml:1: "),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_a_bad_file_names_file_line_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_drift_file(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "accept:\n", "accept: []\n"])
def test_an_empty_file_lets_nothing_be(text: str) -> None:
    assert parse_drift_file(text).accept == ()


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    found = LabPaths(tmp_path / "lab.yaml", "lab")
    found.create()
    one = Remembered("f1", "platform", "vm.gitlab", "differs", AT, 1)
    load_memory(found).keep({"f1": one})
    return found


def test_an_entry_is_appended_and_the_comments_stay(paths: LabPaths) -> None:
    file = paths.file.with_name("drift.yaml")
    text = "# ours\naccept:\n  # the trial\n  - id: vm.a\n    reason: 'because: so'  # told by mail\n    until: 2027-03-02\n"
    file.write_text(text)
    accept(paths, entry("vm.gitlab", "tags"), DAY)
    assert file.read_text().startswith(text)
    assert [(one.id, one.attribute, one.until) for one in read_acceptances(paths)][1] == ("vm.gitlab", "tags", DAY)


def test_the_first_entry_makes_the_file(paths: LabPaths) -> None:
    accept(paths, entry("platform:vm.gitlab"), DAY)
    assert [one.id for one in read_acceptances(paths)] == ["platform:vm.gitlab"]


def test_past_days_unknown_ids_and_second_entries_are_refused(paths: LabPaths) -> None:
    with pytest.raises(UserError, match="is over"):
        accept(paths, entry("vm.gitlab", until=date(2020, 1, 1)), DAY)
    with pytest.raises(UserError) as caught:
        accept(paths, entry("vm.gitlib"), DAY)
    assert "Did you mean 'vm.gitlab'?" in caught.value.hint
    accept(paths, entry("vm.gitlab"), DAY)
    with pytest.raises(UserError, match="is let be already"):
        accept(paths, entry("vm.gitlab"), DAY)
    assert len(read_acceptances(paths)) == 1


def test_a_damaged_memory_makes_everything_new_and_says_so(paths: LabPaths) -> None:
    (paths.drift / "memory.json").write_text("{")
    found = load_memory(paths)
    assert (found.found, len(found.warnings)) == ({}, 1)


def test_what_is_kept_is_read_back_and_only_its_owner_may(paths: LabPaths) -> None:
    one = Remembered("f2", "vault", "policy/gitlab", "differs", AT, 3)
    Memory(paths.drift / "memory.json", {}).keep({"f2": one})
    assert load_memory(paths).found == {"f2": one}
    assert remembered([one.as_dict()]) == {"f2": one}
    assert paths.drift.stat().st_mode & 0o077 == 0


def test_the_newest_reports_are_kept(paths: LabPaths) -> None:
    for day in range(KEEP_REPORTS + 2):
        (paths.drift / f"{(AT + timedelta(days=day)).strftime('%Y%m%dT%H%M%SZ')}.json").write_text("{}")
    report = DriftReport("lab", "sandbox", AT + timedelta(days=1000), 1.0)
    assert save_check(paths, report).warnings == ()
    names = [file.name for file in reports(paths)]
    assert (len(names), names[0], names[-1]) == (KEEP_REPORTS, "20291125T030000Z.json", "20270304T030000Z.json")
    assert load_memory(paths).found


def test_nights_are_counted_and_what_is_not_found_any_more_is_gone() -> None:
    judged, _ = hold_against([finding()], (), DAY)
    (first,), gone, kept = remember(judged, {}, AT, {"platform"})
    assert (first.new, first.seen, first.first_seen, gone) == (True, 1, AT, ())
    (second,), gone, kept = remember(judged, kept, AT + timedelta(days=1), {"platform"})
    assert (second.new, second.seen, second.first_seen, gone) == (False, 2, AT, ())
    entries, gone, kept = remember([], kept, AT + timedelta(days=2), {"platform"})
    assert (entries, [one.id for one in gone], kept) == ((), ["vm.gitlab"], {})


PLACES = ("foundation", "platform", "vault")
NIGHTS = st.lists(st.tuples(st.sets(st.sampled_from(PLACES)), st.sets(st.sampled_from(PLACES))), min_size=1, max_size=8)


@given(NIGHTS)
def test_what_was_not_looked_at_is_neither_gone_nor_forgotten(nights: list[tuple[set[str], set[str]]]) -> None:
    """Each night, some places are looked at and some of those have a finding."""
    kept: dict[str, Remembered] = {}
    for number, (looked, with_finding) in enumerate(nights):
        there = [
            finding(f"thing.{place}", "" if place == "vault" else place, area="vault" if place == "vault" else "terraform")
            for place in sorted(with_finding & looked)
        ]
        judged, _ = hold_against(there, (), DAY)
        before = kept
        entries, gone, kept = remember(judged, before, AT + timedelta(days=number), looked)
        assert {old.place for old in gone} <= looked
        assert {one.fingerprint for one in before.values() if one.place not in looked} <= set(kept)
        assert {entry.finding.fingerprint for entry in entries if not entry.new} <= set(before)
        assert set(kept) == {e.finding.fingerprint for e in entries} | {k for k, o in before.items() if o.place not in looked}
        for one in entries:
            assert one.first_seen <= AT + timedelta(days=number)
            assert one.seen == (before[one.finding.fingerprint].seen + 1 if not one.new else 1)
