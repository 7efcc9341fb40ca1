"""What lasts: the state after a restart, a kill, a broken file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labctl.model.errors import UserError
from labctl.sandbox.pve.state import Guest, State, StateFile, Task, Volume, from_json, to_json


def test_everything_comes_back(pve: Any) -> None:
    pve.ok("POST", "/pools", poolid="lab", comment="c")
    pve.vm(201, virtio0="local-lvm:8", pool="lab", onboot=1)
    pve.user("u@pve", PVEAuditor="/vms")
    pve.ok("POST", "/cluster/firewall/groups", group="web")
    pve.ok("POST", "/cluster/firewall/groups/web", type="in", action="ACCEPT", dport=443)
    pve.ok("POST", "/cluster/mapping/pci", id="gpu0", map="id=10de:2204,node=pve,path=0000:01:00")
    again = StateFile(pve.home / "state.json").load()
    assert to_json(again) == to_json(pve.host.state)


def test_after_a_cut_nothing_runs_no_task_is_alive_and_half_made_guests_are_gone(tmp_path: Path) -> None:
    state = State()
    state.guests = {
        "201": Guest(201, "qemu", "whole", status="running"),
        "202": Guest(202, "qemu", "half", lock="create"),
        "203": Guest(203, "qemu", "locked", lock="backup"),
    }
    state.volumes = {"local-lvm:vm-202-disk-0": Volume("images", "raw", 1, 202)}
    state.tasks = {"UPID:x": Task("UPID:x", "pve", 1, 1, 1, "qmcreate", "202", "root@pam")}
    file = StateFile(tmp_path / "state.json")
    file.save(state)
    again = file.load()
    assert {key: (guest.status, guest.lock) for key, guest in again.guests.items()} == {
        "201": ("stopped", ""),
        "203": ("stopped", "backup"),
    }
    assert again.volumes == {}
    assert (again.tasks["UPID:x"].status, again.tasks["UPID:x"].exitstatus) == ("stopped", "unexpected status")


@pytest.mark.parametrize("content", ["{", '{"format": 99}'])
def test_a_file_of_another_kind_is_refused_with_a_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(UserError) as caught:
        StateFile(tmp_path / "state.json").load()
    assert "sandbox reset" in caught.value.hint


def test_fields_that_a_later_version_adds_do_not_break_an_earlier_one() -> None:
    raw = json.loads(json.dumps(to_json(State(guests={"201": Guest(201, "qemu", "g")}))))
    raw["guests"]["201"]["colour"] = "red"
    assert from_json(raw).guests["201"].name == "g"


def test_the_file_is_private_and_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(tmp_path / "state.json")
    file.save(State(timezone="UTC"))
    assert file.path.stat().st_mode & 0o777 == 0o600

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        file.save(State(timezone="Europe/Lisbon"))
    monkeypatch.undo()
    assert file.load().timezone == "UTC"
