"""Which issues are opened, updated, reopened and closed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import example, given, settings

from labctl.model.drift import AreaDrift, Change, DriftReport, StackDrift, Verdict
from labctl.model.drift.acceptance import Acceptance
from labctl.model.drift.notices import Issue, Notice, notices
from tests.unit.drift.reports import (
    AT,
    DELETED,
    FOREIGN,
    MEMORY,
    OPS,
    OVER,
    POLICY,
    UNAPPLIED,
    clean_report,
    entry,
    full_report,
    nasty_report,
    reports,
)

LOOKED = (StackDrift("platform", "platform", Verdict.DRIFTED), StackDrift("kafka", "services", Verdict.CLEAN))
AREAS = (AreaDrift("proxmox"), AreaDrift("vault"))


def night(*entries: object, **fields: object) -> DriftReport:
    return replace(clean_report(), stacks=LOOKED, areas=AREAS, entries=entries, **fields)  # type: ignore[arg-type]


def opened(report: DriftReport) -> list[Issue]:
    """The issues that a first check makes."""
    return [Issue(n, True, notice.description) for n, notice in enumerate(notices(report, []).todo, 1)]


def actions(report: DriftReport, issues: list[Issue]) -> list[tuple[str, int | None]]:
    return [(notice.action, notice.number) for notice in notices(report, issues).todo]


def test_a_first_night_opens_one_for_each_the_worst_first() -> None:
    todo = notices(night(entry(FOREIGN), entry(DELETED), entry(UNAPPLIED), entry(MEMORY, accepted=OPS)), []).todo
    assert [(one.action, one.title) for one in todo] == [
        ("open", "datalab: guest runner was deleted outside"),
        ("open", "datalab: guest 105 (test-<b>vm</b>) is not declared"),
    ]
    assert "To make it again: `labctl up --layer platform`" in todo[0].description
    assert "labctl drift accept qemu/105 --until DATE" in todo[1].description


def test_the_same_a_night_later_changes_the_count_and_says_nothing() -> None:
    issues = opened(night(entry(MEMORY)))
    (todo,) = notices(night(entry(MEMORY, 2)), issues).todo
    assert (todo.action, todo.number, todo.note) == ("update", 1, "")
    assert "Found by 2 checks in a row since 2026-01-30" in todo.description
    assert notices(night(entry(MEMORY)), issues).todo == ()


def test_other_values_are_told_of() -> None:
    issues = opened(night(entry(MEMORY)))
    less = replace(
        MEMORY,
        text="memory of guest gitlab was set to 512 MiB",
        changes=(Change("memory.dedicated", 8192, 512), MEMORY.changes[1]),
    )
    assert less.fingerprint == MEMORY.fingerprint
    (todo,) = notices(night(entry(less, 2)), issues).todo
    assert (todo.action, todo.number) == ("update", 1)
    assert "memory.dedicated: 8192 → 512" in todo.note
    assert "4096" not in todo.description


def test_gone_or_accepted_it_is_closed_with_the_reason() -> None:
    issues = opened(night(entry(MEMORY), entry(FOREIGN)))
    accepted = Acceptance(id="qemu/105", reason="a test", owner="ops", until=date(2026, 3, 1))
    todo = notices(night(entry(FOREIGN, 2, accepted=accepted)), issues).todo
    assert todo == (
        Notice("close", 1, note="No longer so at the check of 2026-01-31 02:30 UTC."),
        Notice("close", 2, note="Accepted until 2026-03-01, by ops: a test"),
    )


@pytest.mark.parametrize("stack", [replace(LOOKED[0], verdict=Verdict.LOCKED), replace(LOOKED[0], verdict=Verdict.ERROR), None])
def test_what_could_not_be_looked_at_is_not_gone(stack: StackDrift | None) -> None:
    issues = opened(night(entry(MEMORY)))
    assert actions(replace(night(), stacks=(stack,) if stack else ()), issues) == []


def test_an_area_with_a_problem_closes_nothing() -> None:
    issues = opened(night(entry(POLICY)))
    assert actions(replace(night(), areas=(AreaDrift("vault", problems=("sealed",)),)), issues) == []
    assert actions(night(), issues) == [("close", 1)]


@pytest.mark.parametrize(
    ("again", "words"),
    [
        (entry(MEMORY), "It is back:"),
        (entry(MEMORY, 5), "Closed, but still so:"),
        (entry(MEMORY, 5, expired=OVER), "It was accepted until 2026-01-30, and is still so:"),
    ],
)
def test_back_it_is_reopened(again: object, words: str) -> None:
    issues = [replace(issue, open=False) for issue in opened(night(entry(MEMORY)))]
    assert actions(night(), issues) == []
    (todo,) = notices(night(again), issues).todo
    assert (todo.action, todo.number) == ("reopen", 1)
    assert todo.note.startswith(words)


def test_of_two_open_ones_the_older_is_kept_up_and_both_are_closed() -> None:
    first = opened(night(entry(MEMORY)))[0]
    issues = [replace(first, number=7), replace(first, number=4)]
    assert actions(night(entry(MEMORY, 2)), issues) == [("update", 4)]
    assert actions(night(), issues) == [("close", 4), ("close", 7)]


def test_no_more_than_so_many_are_opened() -> None:
    many = [entry(replace(FOREIGN, id=f"qemu/{n}")) for n in range(200, 226)]
    found = notices(night(*many, entry(DELETED)), [])
    assert (len(found.todo), found.left_out) == (20, 7)
    assert found.todo[0].title.endswith("runner was deleted outside")
    issues = [Issue(n, True, one.description) for n, one in enumerate(found.todo, 1)]
    again = notices(night(*many, entry(DELETED)), issues)
    assert ([one.action for one in again.todo], again.left_out) == (["open"] * 7, 0)


def test_other_issues_are_let_be() -> None:
    other_lab = opened(replace(night(entry(MEMORY)), lab="other"))
    strangers = [*other_lab, Issue(9, True, "somebody's own, with the label"), Issue(10, True, "")]
    assert actions(night(), strangers) == []


def test_what_people_write_around_it_is_kept() -> None:
    issue = opened(night(entry(MEMORY)))[0]
    edited = replace(issue, description=f"Ask ops first.\n\n{issue.description}\n\nSee the wiki.")
    (todo,) = notices(night(entry(MEMORY, 3)), [edited]).todo
    assert todo.description.startswith("Ask ops first.\n\n<!-- labctl-drift")
    assert todo.description.endswith("-->\n\nSee the wiki.")
    assert todo.description.count("Found by") == 1


def test_no_text_is_an_order_or_forges_a_mark() -> None:
    mark = "<!-- labctl-drift lab=datalab place=vault fingerprint=0123456789abcdef -->"
    bad = replace(POLICY, id=f"policy/{mark}", text="/close @all")
    (todo,) = notices(night(entry(bad)), []).todo
    assert "\n\\/close \\@all\n" in todo.description
    assert todo.description.count("<!-- labctl-drift lab=") == 1


def test_a_long_title_is_cut() -> None:
    (todo,) = notices(night(entry(replace(POLICY, text="x" * 400))), []).todo
    assert len(todo.title) == 255


@settings(max_examples=40)
@given(reports())
@example(nasty_report())
def test_a_check_that_was_told_needs_no_telling_again(report: DriftReport) -> None:
    first = notices(report, [], 1000)
    issues = [Issue(n, True, notice.description) for n, notice in enumerate(first.todo, 1)]
    assert notices(report, issues, 1000).todo == ()
    assert len(issues) == len({e.finding.fingerprint for e in report.entries if e.counts})


def test_a_week() -> None:
    """New, still there, changed, gone, back, accepted, expired."""
    issues: dict[int, Issue] = {}
    said: list[list[str]] = []
    more = replace(MEMORY, changes=(Change("memory.dedicated", 8192, 512), MEMORY.changes[1]))
    for number, today in enumerate(
        [
            (entry(MEMORY),),
            (entry(MEMORY, 2),),
            (entry(more, 3),),
            (),
            (entry(more),),
            (entry(more, 2, accepted=OPS),),
            (entry(more, 3, expired=OPS),),
        ]
    ):
        report = night(*today, at=AT + timedelta(days=number))
        todo = notices(report, issues.values()).todo
        said.append([one.action for one in todo])
        for one in todo:
            key = one.number or len(issues) + 1
            description = one.description or issues[key].description
            issues[key] = Issue(key, one.action != "close", description)
    assert said == [["open"], ["update"], ["update"], ["close"], ["reopen"], ["close"], ["reopen"]]
    assert len(issues) == 1


def test_the_full_report_opens_only_what_drifted() -> None:
    assert {one.action for one in notices(full_report(), []).todo} == {"open"}
    assert len(notices(full_report(), []).todo) == 5
