"""A drift report on a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings

from labctl.cli._drift import drift_lines, show_drift
from labctl.model.drift import DriftReport
from tests.unit.drift.reports import DELETED, MEMORY, clean_report, entry, full_report, nasty_report, reports


@pytest.mark.parametrize("columns", [80, 120])
def test_it_looks_as_it_should(columns: int, golden: Callable[[str, str], None]) -> None:
    lines = drift_lines(full_report(), columns)
    golden(f"drift/full-{columns}.txt", "\n".join(lines) + "\n")
    assert all(len(line) <= columns for line in lines)


@settings(max_examples=40)
@given(reports())
@example(nasty_report())
def test_no_text_moves_the_cursor_or_makes_lines(report: DriftReport) -> None:
    lines = drift_lines(report, 80)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "".join(lines).replace("\ufffd", ""))
    heads = [line for line in lines if re.match(r"  [≠~] (high|medium|low), ", line)]
    assert len(heads) == sum(entry.accepted is None for entry in report.entries)


def test_colours_are_beside_words_and_never_alone() -> None:
    tones: set[str] = set()
    painted = drift_lines(full_report(), 80, lambda text, tone: tones.add(tone) or text)  # type: ignore[func-returns-value]
    assert painted == drift_lines(full_report(), 80)
    assert {"red", "yellow", "bold"} <= tones


def test_what_is_new_comes_before_the_stacks() -> None:
    text = "\n".join(drift_lines(full_report(), 80))
    assert (
        text.index("new since the last check\n")
        < text.index(DELETED.id)
        < text.index("stack foundation:")
        < text.index(MEMORY.id)
    )


def test_a_clean_one_is_one_line() -> None:
    assert drift_lines(clean_report(), 80) == ["All is as described (2 stacks and 2 areas looked at)."]


def test_a_long_address_is_whole() -> None:
    long = replace(MEMORY, id="module.guests." + "x" * 90)
    report = replace(clean_report(), stacks=full_report().stacks[1:2], entries=(entry(long, 3),))
    assert f"      {long.id}" in drift_lines(report, 80)


def test_in_a_pipe_there_is_no_colour_and_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show_drift(full_report())
    out, err = capsys.readouterr()
    assert "\033" not in out + err
    assert err == "warning: the webhook did not answer within 10 s\n"
