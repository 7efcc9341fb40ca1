"""The table of the live view, and what it makes of events."""

from __future__ import annotations

import pytest

from labctl.cli._live import LiveView, Row, short, table
from labctl.engine.events import Event

LONG = "proxmox_virtual_environment_firewall_options.a_guest_with_a_name_that_is_longer_than_most_of_them"


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    row = Row(stage="not deployed", counts="+10 ~3 ±2", since=0.0, running={LONG: None, f"{LONG}2": None})
    for line in table([("foundation", row), ("platform", Row())], columns, 12345.0):
        assert len(line) < columns


def test_at_80_columns_stack_stage_counts_and_time_are_whole() -> None:
    row = Row(stage="not deployed", counts="+10 ~3 ±2", since=0.0, running={LONG: None})
    _titles, line = table([("foundation", row)], 80, 61.4)
    assert line.startswith("foundation  not deployed  firewall_options.a_guest")
    assert "…" in line
    assert line.endswith("  +10 ~3 ±2   61s")


def test_addresses_lose_what_all_have_in_common() -> None:
    assert short("proxmox_virtual_environment_vm.vault") == "vm.vault"
    assert short("proxmox_download_file.image") == "download_file.image"
    assert short("terraform_data.x") == "terraform_data.x"


def test_the_clock_of_a_row_counts_work_only() -> None:
    row = Row()
    row.work(10.0, ended=False)
    row.work(13.0, ended=True)
    assert row.seconds(100.0) == 3.0
    row.work(200.0, ended=False)
    row.work(201.0, ended=False)
    assert row.seconds(202.0) == 5.0


def lines(view: LiveView, columns: int = 80, height: int = 24) -> list[str]:
    known = [name for name in view._order if name in view._rows]
    return view._lines(known or list(view._rows), columns, height, view._clock())


def test_stacks_stand_in_the_order_of_the_lab_and_resources_come_and_go() -> None:
    view = LiveView(clock=lambda: 5.0)
    view(Event("stacks", fields={"stacks": [{"name": "foundation"}, {"name": "platform"}]}))
    view(Event("stack", "not deployed", "platform", {"stage": "not deployed", "ended": True}))
    view(Event("stack", "applying", "foundation", {"stage": "applying", "counts": "+2"}))
    for name in ("vm.a", "vm.b"):
        view(Event("resource", "", "foundation", {"address": f"proxmox_virtual_environment_{name}", "state": "start"}))
    assert [line.split()[0] for line in lines(view)] == ["STACK", "foundation", "platform"]
    assert "vm.a and 1 more" in lines(view)[1]
    view(Event("resource", "", "foundation", {"address": "proxmox_virtual_environment_vm.a", "state": "complete"}))
    assert "vm.b  " in lines(view)[1]
    view(Event("progress", "waiting for the agent of guest vault", "foundation"))
    view(Event("stack", "steps", "foundation", {"stage": "steps"}))
    assert "vm." not in lines(view)[1]


def test_a_stage_shows_how_long_it_takes_and_its_last_detail() -> None:
    now = [0.0]
    view = LiveView(clock=lambda: now[0])
    view(Event("stage", "preparing Terraform"))
    view(Event("progress", "go: downloading golang.org/x/net v0.1.0" + "0" * 100))
    now[0] = 41.2
    (line,) = lines(view)
    assert line.startswith("… preparing Terraform 41s  go: downloading golang.org/x/net")
    assert len(line) < 80


def test_more_stacks_than_the_terminal_has_lines_show_those_at_work() -> None:
    view = LiveView(clock=lambda: 5.0)
    for number in range(50):
        ended = number < 40
        fields = {"stage": "applied" if ended else "applying", "ended": ended}
        view(Event("stack", "", f"s{number}", fields))
    shown = lines(view, height=10)
    assert len(shown) <= 9
    assert [line.split()[0] for line in shown[1:8]] == [f"s{number}" for number in range(40, 47)]
    assert shown[8] == "and 40 applied, 3 applying"
    assert len(lines(view, height=80)) == 51


def test_an_error_is_shown_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    view(Event("error", "web did not become healthy", "mlserver", {"hint": "Why: it is [ill]\nThe next apply tries again."}))
    view(Event("note", "done", "mlserver", {"hint": "no"}))
    assert capsys.readouterr().out == (
        "error: mlserver: web did not become healthy\n  Why: it is [ill]\n  The next apply tries again.\nmlserver: done\n"
    )
