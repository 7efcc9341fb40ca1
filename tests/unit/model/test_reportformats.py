"""A report as Markdown and as JUnit XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.report import RunReport, StackResult
from labctl.model.reportformats import as_junit, as_markdown, duration
from tests.unit.model.test_report import run_reports

# Control characters and lone surrogates among them, and what the languages read as often as all others together.
ANY_TEXT = st.text(st.sampled_from("|\\<>&`\n\r\a ab") | st.characters(), max_size=9)


def failed_run() -> RunReport:
    return RunReport(
        id="20260131T081500Z-ab12",
        command="up",
        lab="datalab",
        result="failed",
        began="2026-01-31T08:15:00+00:00",
        seconds=75.25,
        stacks=(
            StackResult("foundation", "foundation", (), "applied", counts={"add": 10}, began_s=4.0, ended_s=20.5),
            StackResult("platform", "platform", ("foundation",), "no changes", counts={"add": 0}, began_s=20.5, ended_s=21.0),
            StackResult(
                "kafka", "services", ("platform",), "applied", counts={"add": 2, "change": 1}, began_s=21.0, ended_s=30.0
            ),
            StackResult(
                "postgres",
                "services",
                ("platform",),
                "failed",
                reason="apply failed: port 5432 | is taken\n  by <another> process",
                counts={"add": 3},
                began_s=23.0,
                ended_s=75.25,
            ),
            StackResult("mlflow", "apps", ("postgres", "kafka"), "blocked", blame="postgres"),
            StackResult("web", "apps", ("kafka",), "interrupted", reason="stopped by a signal"),
            StackResult("late", "apps", ("web",), "not started"),
        ),
        steps=("bucket `lakehouse` is ready",),
        error="postgres: apply failed: port 5432 | is taken",
        hint="Free the port, then run `labctl up` again.",
    )


def test_the_markdown_of_a_failed_run(golden: Callable[[str, str], None]) -> None:
    golden("report/failed.md", as_markdown(failed_run()))


def test_the_markdown_of_a_run_without_stacks_has_no_empty_parts() -> None:
    text = as_markdown(RunReport("r", "up", "lab", "failed", "2026-01-31T08:15:00+00:00", 0.25, (), error="no rights"))
    assert text == "# labctl up: failed\n\nLab lab, run r, began 2026-01-31 08:15:00 UTC, took 0.2 s.\n\n> **Error:** no rights\n"


@given(run_reports(ANY_TEXT))
def test_no_text_breaks_out_of_its_cell(report: RunReport) -> None:
    text = as_markdown(report)
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert len(rows) == (len(report.stacks) + 2 if report.stacks else 0)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} <= {7}
    text.encode()


def test_a_backslash_before_a_bar_does_not_open_a_cell() -> None:
    stacks = (StackResult("a", "l", (), "failed", reason="back\\|slash"),)
    assert r"| back\\\|slash |" in as_markdown(RunReport("r", "up", "lab", "failed", "", 1.0, stacks))


@given(run_reports(ANY_TEXT))
def test_the_xml_is_well_formed_whatever_the_text_and_its_totals_are_right(report: RunReport) -> None:
    root = ET.fromstring(as_junit(report).encode())
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites].count("run") <= 1 or any(stack.layer == "run" for stack in report.stacks)
    for kind, total in (("testcase", "tests"), ("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(root.get(total) or -1) == len(list(root.iter(kind)))
        assert sum(int(suite.get(total) or -1) for suite in suites) == len(list(root.iter(kind)))
    bad = len(root.findall(".//failure")) + len(root.findall(".//error"))
    assert bad or report.result not in ("failed", "interrupted")


def test_a_layer_is_a_suite_and_a_stack_is_a_case() -> None:
    root = ET.fromstring(as_junit(failed_run()))
    assert [(suite.get("name"), len(suite)) for suite in root] == [
        ("foundation", 1),
        ("platform", 1),
        ("services", 2),
        ("apps", 3),
    ]
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == ("7", "1", "1", "2")
    failure = root.find(".//testcase[@name='postgres']/failure")
    assert failure is not None
    assert failure.get("message") == "apply failed: port 5432 | is taken by <another> process"
    assert "Free the port" in (failure.text or "")
    blocked = root.find(".//testcase[@name='mlflow']/skipped")
    assert blocked is not None
    assert blocked.get("message") == "postgres failed"
    assert root.find(".//testcase[@name='platform']/*") is None
    case = root.find(".//testcase[@name='postgres']")
    assert case is not None
    assert case.get("time") == "52.250"


@pytest.mark.parametrize("result", ["failed", "interrupted", "cut off"])
def test_a_run_that_failed_before_its_stacks_is_not_green(result: str) -> None:
    stacks = (StackResult("foundation", "foundation", (), "not started"),)
    root = ET.fromstring(as_junit(RunReport("r", "up", "lab", result, "", 1.0, stacks, error="the token has no rights")))
    failure = root.find(".//testsuite[@name='run']/testcase[@name='up']/failure")
    assert failure is not None
    assert "the token has no rights" in (failure.text or "")


def test_characters_that_xml_cannot_hold_are_marked() -> None:
    stacks = (StackResult("a", "l", (), "failed", reason="bell \x07, half \ud800, tab \t"),)
    failure = ET.fromstring(as_junit(RunReport("r", "up", "lab", "failed", "", 1.0, stacks))).find(".//failure")
    assert failure is not None
    assert failure.text == "bell \ufffd, half \ufffd, tab"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1m 00s"),
        (65.4, "1m 05s"),
        (3599.6, "1h 00m"),
        (7265, "2h 01m"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
