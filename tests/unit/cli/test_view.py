"""What goes to stdout and what to stderr, for people and for programs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.cli import main
from labctl.cli._summary import counts_text, endpoint_lines
from labctl.cli._view import JsonLines, plain_lines
from labctl.engine.events import Event
from labctl.engine.status import Endpoint


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABCTL_LAB", raising=False)
    return tmp_path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_report_is_the_last_line_whatever_comes_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    stream = JsonLines()
    stream(Event("report", fields={"result": "failed"}))
    stream(Event("note", "late"))
    stream.close()
    assert [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()] == ["note", "report"]


@pytest.mark.parametrize("view", [JsonLines(), plain_lines])
def test_a_line_and_its_end_are_one_piece(view: Callable[[Event], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unbuffered stdout hands on each piece by itself, and several threads tell events."""
    pieces: list[str] = []

    class Unbuffered(io.StringIO):
        def write(self, text: str) -> int:
            if text:
                pieces.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stdout", Unbuffered())
    view(Event("note", "made the lab's keys"))
    assert len(pieces) == 1
    assert pieces[0].endswith("\n")


def test_plain_lines_leave_out_what_only_a_live_view_needs(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("stage", "progress", "stacks", "plan", "report"):
        plain_lines(Event(kind, "text"))
    plain_lines(Event("resource", "vm.a: creating", "foundation", {"state": "start"}))
    plain_lines(Event("resource", "vm.a: created (3 s)", "foundation", {"state": "complete"}))
    plain_lines(Event("warning", "careful", "platform"))
    out, err = capsys.readouterr()
    assert out == "[foundation] vm.a: created (3 s)\n"
    assert err == "warning: [platform] careful\n"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("upp",), "Did you mean 'up'?"),
        (("up", "--lyer", "x"), "`labctl up --help`"),
        (("secrets", "gett"), "`labctl secrets --help`"),
        (("render",), "Missing argument 'GUEST'"),
        (("status",), "there is no lab.yaml"),
        (("up", "--yes"), "there is no lab.yaml"),
        (("init",), "there is no command 'init'"),
    ],
)
def test_what_was_typed_wrong_is_an_error_on_stderr_with_exit_code_1(
    args: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*args) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert sentence in err


@pytest.mark.parametrize("command", ["status", "plan", "up", "output", "doctor"])
def test_with_json_an_error_is_an_event_too(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"up": ["--yes"], "output": ["platform"]}.get(command, [])
    assert run(command, "--json", *more) == 1
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    event = json.loads(line)
    assert event["type"] == "error"
    assert "there is no lab.yaml" in event["text"]
    assert "--lab FILE" in event["hint"]
    assert err.startswith("error: ")


@pytest.mark.parametrize("command", ["up", "down"])
def test_without_a_terminal_and_without_yes_nothing_is_begun(
    command: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "lab.yaml").write_text("name: untouched\ntarget: {sandbox: {guests: appliance}}\n")
    assert run(command) == 1
    assert "Add --yes" in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["lab.yaml"]


def test_no_command_shows_the_help_without_calling_it_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 1
    assert capsys.readouterr().err.startswith("Usage: labctl")


def test_the_summary_says_where_to_go_and_how_to_get_in() -> None:
    found = (
        Endpoint("Vault", "https://192.0.2.2:8200", "labctl secrets list", answers=True),
        Endpoint("GitLab", "http://gitlab.example.com", "labctl secrets get gitlab/root"),
    )
    assert endpoint_lines(found, 80, on_sandbox=False) == [
        "  Vault   https://192.0.2.2:8200     labctl secrets list",
        "  GitLab  http://gitlab.example.com  labctl secrets get gitlab/root",
    ]
    narrow = endpoint_lines(found, 50, on_sandbox=True)
    assert narrow[2:4] == ["  GitLab  http://gitlab.example.com", "          labctl secrets get gitlab/root"]
    assert "nothing answers at GitLab" in narrow[4]
    assert max(map(len, narrow)) <= 50
    assert endpoint_lines((), 80, on_sandbox=True) == []
    assert counts_text({"add": 8, "change": 0, "destroy": 1}) == " (8 added, 1 destroyed)"
    assert counts_text({"add": 0}) == ""
