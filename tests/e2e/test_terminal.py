"""What a person at a terminal sees: the live view, the question, a no, Ctrl-C; and what a pipe gets instead."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.labfolder import ALL_GUESTS, LABCTL, LabFolder
from tests.e2e.screen import Screen, Terminal

QUESTION = "[y/N] "
CREATES = (
    "proxmox_download_file.image",
    "proxmox_virtual_environment_pool.lab",
    *(f"proxmox_virtual_environment_{kind}.{guest}" for kind in ("file", "vm") for guest in ("store", "vault")),
)


@pytest.fixture(scope="module")
def shown(make_lab: Callable[[], LabFolder]) -> LabFolder:
    """A lab for the tests of this module, which run in the order of the file."""
    return make_lab()


def at_terminal(lab: LabFolder, *args: str, columns: int = 80, **env: str) -> Terminal:
    environment = {name: value for name, value in lab.environment().items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    return Terminal([str(LABCTL), *args], lab.path, environment | {"TERM": "xterm-256color"} | env, columns=columns)


def checked(terminal: Terminal) -> Screen:
    """The screen at the end: nothing of the table is left, the cursor is back, nothing came that the screen does not know."""
    screen = terminal.screen()
    assert screen.unknown == []
    assert screen.cursor_visible
    assert not [line for line in screen.text if line.startswith(("STACK", "… "))], "\n".join(screen.text)
    return screen


def test_a_no_changes_nothing_and_the_picture_is_whole(shown: LabFolder) -> None:
    with at_terminal(shown, "up") as terminal:
        terminal.send("y\r")  # typed ahead: not an answer to a question that nobody has seen
        terminal.expect(QUESTION)
        assert terminal.quiet_for(1.0)
        assert terminal.echoes()
        terminal.send("n\r")
        assert terminal.end() == 1
        lines = checked(terminal).text
    for address in CREATES:
        assert [line for line in lines if line.startswith(f"  + {address}")], address
    assert any("vmid 102, vault, 1 core, 1024 MiB, 20 GiB" in line for line in lines)
    assert lines[-2].startswith("Apply? [y/N] n")
    assert lines[-1] == "Declined: nothing was changed."
    assert shown.json("status")["layers"] == []


@pytest.mark.parametrize(("keys", "code", "words"), [("\x03", 130, "interrupted"), ("\x04", 1, "Declined")])
def test_ctrl_c_and_ctrl_d_at_the_question(shown: LabFolder, keys: str, code: int, words: str) -> None:
    with at_terminal(shown, "up") as terminal:
        terminal.expect(QUESTION)
        terminal.send(keys)
        assert terminal.end() == code
        assert words in "\n".join(checked(terminal).text[-3:])
    assert shown.json("status")["layers"] == []


def test_a_dumb_terminal_is_asked_in_plain_lines(shown: LabFolder) -> None:
    with at_terminal(shown, "up", TERM="dumb") as terminal:
        terminal.expect(QUESTION)
        terminal.send("no\r")
        assert terminal.end() == 1
    assert "\x1b" not in terminal.raw
    assert "[foundation] planning" in terminal.raw


def test_ctrl_c_in_an_apply_ends_with_130_and_the_next_run_goes_on(shown: LabFolder) -> None:
    with at_terminal(shown, "up", "--yes") as terminal:
        terminal.expect("applying")
        assert not terminal.echoes()
        terminal.send("\x03")
        assert terminal.end() == 130
        assert "error: " in "\n".join(checked(terminal).text[-4:])
    with at_terminal(shown, "up", "--yes", columns=120) as terminal:
        assert terminal.end() == 0
        lines = checked(terminal).text
    assert any(re.match(r"  Vault +https://\S+:8200  labctl secrets list$", line) for line in lines)
    assert any("labctl secrets get gitlab/root" in line for line in lines)
    assert shown.run("plan", "--detailed-exitcode").code == 0


def test_nothing_to_do_asks_nothing_and_the_table_keeps_to_the_width(shown: LabFolder) -> None:
    with at_terminal(shown, "up") as terminal:
        assert terminal.end() == 0
        lines = checked(terminal).text
    assert lines[0].startswith("Nothing to do: the lab is as described (")
    plain = re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", terminal.raw)
    drawn = [line for line in re.split(r"[\r\n]+", plain) if line.startswith(("STACK", "foundation", "platform", "… "))]
    assert any(line.startswith("foundation") for line in drawn)
    assert max(map(len, drawn)) < 80


CHANGED = "platform: {docker: {memory_mib: 20480}, gitlab: {runner: {concurrent: 9}}}\n"


def test_an_update_shows_before_and_after_and_says_what_it_does_not_reach(shown: LabFolder) -> None:
    shown.write(CHANGED)
    try:
        with at_terminal(shown, "up") as terminal:
            terminal.expect(QUESTION)
            terminal.send("n\r")
            assert terminal.end() == 1
            lines = checked(terminal).text
        assert "      memory.dedicated: 36864 → 20480" in lines
        assert any(re.match(r' +\+ .*"9"', line) for line in lines)
        assert "guest gitlab keeps the cloud-init of its first boot: the edit reaches only" in "\n".join(lines)
        assert "\x1b[33m" in terminal.raw
        with at_terminal(shown, "plan", NO_COLOR="1") as terminal:
            assert terminal.end() == 0
            assert "      memory.dedicated: 36864 → 20480" in checked(terminal).text
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.raw)
    finally:
        shown.write("")


def test_a_pipe_gets_plain_lines_and_json_nothing_but_json(shown: LabFolder) -> None:
    plan = shown.ok("plan")
    assert "\x1b" not in plan.out + plan.err
    assert plan.out.splitlines()[-2:] == ["foundation: no changes", "platform: no changes"]
    done = shown.ok("up", "--yes", "--json")
    events: list[dict[str, Any]] = [json.loads(line) for line in done.out.splitlines()]
    assert done.err == ""
    assert events[-1]["type"] == "report"
    documented = ["stage", "stacks", "stack", "stack_plan", "resource", "step", "progress", "note", "warning", "report"]
    assert {event["type"] for event in events} <= set(documented)


def test_a_failure_in_json_is_an_event_before_the_report(shown: LabFolder) -> None:
    refused = shown.run("down", "--yes", "--json", "--layer", "platform")
    assert refused.code == 1
    *_, error, report = [json.loads(line) for line in refused.out.splitlines()]
    assert error["type"] == "error"
    assert "--allow-destroy docker --allow-destroy gitlab" in error["hint"]
    assert (report["type"], report["result"]) == ("report", "failed")
    assert refused.err.startswith("error: platform: the plan is refused")


def test_a_yes_destroys(shown: LabFolder) -> None:
    with at_terminal(shown, "down", "--allow-destroy", ALL_GUESTS) as terminal:
        terminal.expect(QUESTION)
        terminal.send("y\r")
        assert terminal.end() == 0
        assert checked(terminal).text[-1].startswith("Destroyed platform, foundation in ")
    assert shown.json("status")["layers"] == []
