"""A whole life of a lab, held against an independent emulator of the same API."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.proxmox import Proxmox
from labctl.adapters.proxmox.inventory import take_inventory
from labctl.engine.lab import open_lab
from labctl.engine.target import running_target
from labctl.model.drift.proxmox import Declared, DeclaredGuest, Origin
from labctl.model.target import Datastores
from labctl.sandbox import control
from tests.e2e.labfolder import LabFolder
from tests.e2e.referee.allowlist import Allowed, judge, read_allowed
from tests.e2e.referee.replay import Difference, Referee, differences, replay


@pytest.fixture(scope="module")
def recording(make_lab: Callable[[], LabFolder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The requests of `up`, of a second plan, and of `down`."""
    lab = make_lab()
    lab.ok("sandbox", "start")
    home = lab.work / "sandbox"
    control(home, "POST", "recording", {"name": "life"})
    lab.ok("up", "--yes")
    lab.ok("plan", "--detailed-exitcode")
    lab.down()
    file = Path(control(home, "DELETE", "recording")["file"])
    assert control(home, "GET", "unserved") == []
    return Path(file.rename(tmp_path_factory.mktemp("recording") / file.name))


def test_a_labs_life_looks_the_same_to_another_emulator(recording: Path, fakepve: Referee) -> None:
    assert len(recording.read_text().splitlines()) > 50
    verdict = judge(replay(recording, fakepve), read_allowed())
    for entry in verdict.unused:
        print(f"allowed for nothing here: {entry.method} {entry.path} | {entry.difference}")
    assert not verdict.unexpected, str(verdict)


def test_what_a_drift_check_reads_looks_the_same_to_another_emulator(lab: LabFolder, fakepve: Referee, tmp_path: Path) -> None:
    """A small cluster, made by calls that both know, and then everything that the inventory reads of it."""
    lab.ok("sandbox", "start")
    home, pve = lab.work / "sandbox", lab.hypervisor()
    control(home, "POST", "recording", {"name": "inventory"})
    pve.pools.post(poolid="e2e")
    pve.nodes("pve").qemu.post(vmid=201, name="gitlab", memory=512, pool="e2e", tags="e2e;labctl", scsi0="local-lvm:1")
    pve.access.users.post(userid="labctl-drift@pve")
    pve.access.users("labctl-drift@pve").token("nightly").post(expire=1811808000)
    pve.access.acl.put(path="/", users="labctl-drift@pve", roles="PVEAuditor")
    mine = DeclaredGuest(201, "gitlab", "pve", Origin("x", "platform", "platform"), "e2e")
    found = open_lab(lab.path / "lab.yaml")
    target = running_target(found.lab, found.paths)
    assert target is not None
    with Proxmox.connect(target.endpoint, target.token_id, target.token, target.ca_file) as client:
        seen = take_inventory(client, Declared("e2e", "pve", Datastores(), (mine,), token_id=target.token_id))
    assert seen.problems == ()
    recorded = Path(control(home, "DELETE", "recording")["file"])
    verdict = judge(replay(Path(recorded.rename(tmp_path / recorded.name)), fakepve), read_allowed())
    assert not verdict.unexpected, str(verdict)


def test_a_planted_difference_is_found(fakepve: Referee, tmp_path: Path) -> None:
    honest = {"method": "GET", "path": "/version", "arguments": {}, "status": 200, "reason": "OK"}
    lines = [
        {**honest, "answer": {"data": {"version": "9.0.10", "release": "9.0"}}},
        {**honest, "path": "/cluster/nextid", "answer": {"data": 100}},
        {**honest, "path": "/nodes/pve/qemu/4711/config", "answer": {"data": {}}},
    ]
    (tmp_path / "recording.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [str(one).split(", theirs 500")[0] for one in replay(tmp_path / "recording.jsonl", fakepve)] == [
        "GET /cluster/nextid | type: data is number, theirs string",
        "GET /nodes/{node}/qemu/{vmid}/config | status: ours 200 OK",
        "GET /version | missing: data.repoid",
    ]


CASES: list[tuple[Any, Any, list[str]]] = [
    ({"a": 1, "b": "x"}, {"a": True, "b": "y"}, []),
    ({"a": 1}, {"a": "1", "b": 2}, ["missing: data.b", "type: data.a is number, theirs string"]),
    ([], [{"a": 1}], []),
    ([{"a": 1}, {"a": 2, "b": 1}], [{"a": 1, "b": 1}, {"a": 1}], []),
    ([{"a": 1}, {"b": 1}], [{"a": 1}], ["missing: data[].a"]),
    (None, {}, ["type: data is null, theirs object"]),
]


@pytest.mark.parametrize(("ours", "theirs", "expected"), CASES)
def test_shapes_are_compared_and_values_are_not(ours: object, theirs: object, expected: list[str]) -> None:
    assert list(differences(ours, theirs, "data")) == expected


def test_the_list_allows_what_it_names_and_reports_what_nothing_needed() -> None:
    entry = Allowed("GET", "/nodes/.*", "missing: .*", "a reason that is long enough")
    found = Difference("GET", "/nodes/{node}/status", "missing: data.x")
    assert judge([found], [entry]).unexpected == ()
    assert judge([replace(found, method="PUT")], [entry]).unexpected == (replace(found, method="PUT"),)
    assert judge([], [entry]).unused == (entry,)
