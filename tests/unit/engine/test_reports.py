"""The reports in a run's folder."""

from __future__ import annotations

import os
import stat
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from labctl.engine.reports import read_report, write_reports
from labctl.model.errors import UserError
from labctl.model.report import RunReport, StackResult

REPORT = RunReport("r", "up", "lab", "done", "", 1.0, (StackResult("a", "l", (), "applied"),))


def test_what_is_written_is_read_again_and_only_the_owner_may(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_reports(tmp_path, REPORT)
    finally:
        os.umask(before)
    assert read_report(tmp_path) == REPORT
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.json", "report.md", "report.xml"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert (tmp_path / "report.md").read_text().startswith("# labctl up: done\n")
    assert ET.parse(tmp_path / "report.xml").getroot().get("tests") == "1"


@pytest.mark.parametrize("text", [None, "", "{", "[]", '"text"', '{"schema": 99}'])
def test_where_there_is_no_readable_report_there_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    assert read_report(tmp_path) is None


def test_a_full_disk_is_one_sentence_and_leaves_the_last_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reports(tmp_path, REPORT)
    real = os.open

    def full(path: Path, *args: int) -> int:
        real(path, *args)
        return real("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(UserError, match="no space left"):
        write_reports(tmp_path, RunReport("other", "up", "lab", "done", "", 1.0, ()))
    assert read_report(tmp_path) == REPORT
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.json", "report.md", "report.xml"]
