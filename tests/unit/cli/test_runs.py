"""`labctl runs`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.cli import main
from labctl.cli.runs import list_lines, run_lines
from labctl.engine.lab import open_lab
from labctl.engine.reports import write_reports
from labctl.model.report import RunReport, StackResult
from tests.unit.model.test_reportformats import failed_run


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lab.yaml").write_text("name: datalab\ntarget: {sandbox: {guests: appliance}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABCTL_LAB", raising=False)
    paths = open_lab().paths
    paths.create()
    for report in (
        failed_run(),
        RunReport("20260130T081500Z-cd34", "plan", "datalab", "done", "2026-01-30T08:15:00+00:00", 2, ()),
    ):
        (paths.runs / report.id).mkdir()
        write_reports(paths.runs / report.id, report)
    return tmp_path


@pytest.mark.parametrize("columns", [80, 120])
def test_one_run_reads_well(columns: int, golden: Callable[[str, str], None]) -> None:
    lines = [line for line, _ in run_lines(failed_run(), columns)]
    assert max(map(len, lines)) <= columns
    golden(f"report/run-{columns}.txt", "\n".join(lines) + "\n")


def test_the_list_fits_a_terminal() -> None:
    longest = RunReport("20260130T081500Z-cd34", "down", "l", "nothing to do", "2026-01-30T08:15:00+00:00", 3540, ())
    stacks = tuple(StackResult(f"s{i}", "l", (), "applied") for i in range(12))
    lines = [line for line, _ in list_lines([longest, failed_run(), RunReport("i", "up", "l", "done", "", 0.0, stacks)])]
    assert lines[:2] == [
        "RUN                    COMMAND  BEGAN (UTC)  TOOK     RESULT         CHANGED",
        "20260130T081500Z-cd34  down     01-30 08:15  59m 00s  nothing to do",
    ]
    assert max(map(len, lines)) <= 80
    assert lines[2].endswith("2 of 7")
    assert lines[3].endswith("12 of 12")
    assert list_lines([])[0][0].startswith("No run is kept yet")


def test_the_list_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("runs", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["lab"] == "datalab"
    assert document["runs"][0] == {
        "id": "20260131T081500Z-ab12",
        "command": "up",
        "began": "2026-01-31T08:15:00+00:00",
        "seconds": 75.25,
        "result": "failed",
        "stacks": 7,
        "changed": ["foundation", "kafka"],
    }
    assert [entry["id"] for entry in document["runs"]] == ["20260131T081500Z-ab12", "20260130T081500Z-cd34"]


def test_one_run_for_programs_and_for_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("runs", "ab12", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert [step["name"] for step in document["critical_path"]] == ["foundation", "platform", "postgres"]
    assert run("runs", "ab12", "--format", "markdown") == 0
    assert capsys.readouterr().out.startswith("# labctl up: failed\n")
    assert run("runs", "ab12", "--format", "junit") == 0
    assert ET.fromstring(capsys.readouterr().out).get("failures") == "1"
    assert run("runs") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("20260131T081500Z-ab12  up")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("20260131T081500Z-ab13",), "Did you mean '20260131T081500Z-ab12'?"),
        (("ab12", "--format", "markdwn"), "Did you mean 'markdown'?"),
        (("--format", "junit"), "--format is for one run"),
        (("ab12", "--format", "junit", "--json"), "--format is for one run"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    folder: Path, args: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("runs", *args) == 1
    assert sentence in capsys.readouterr().err


def test_looking_changes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    assert run("runs") == 0
    assert sorted(folder.rglob("*")) == before
