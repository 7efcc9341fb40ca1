"""The API fails in the middle of an `up`: one clear error, nothing half-done that the next `up` does not finish.

By default a part of the cases, another one each day, so that all come round; LABCTL_FULL=1 runs all, LABCTL_SEED=N a day's part.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from typing import Any

import pytest

from labctl.sandbox.supervisor import control
from tests.e2e.labfolder import LabFolder, Result

SEED = int(os.environ.get("LABCTL_SEED") or dt.datetime.now(dt.UTC).date().toordinal())
FULL = os.environ.get("LABCTL_FULL") == "1"
FOUNDATION = ("--layer", "foundation")
KINDS: dict[str, dict[str, Any]] = {
    "500": {"status": 500, "message": "got timeout"},
    "403": {"status": 403, "message": "Permission check failed (/nodes/pve, Sys.Audit)"},
    "dropped": {"drop": "before"},
    "answer lost": {"drop": "after"},
}
READS = 17
"""The first requests of an `up`: what is there, is it ours to use, does the plan still fit. Nothing is changed by them."""

OWN_READS = 10
"""The first of them, which labctl sends itself."""

CHANGES = (
    ("POST", "^/pools$"),
    ("POST", "/storage/local/download-url$"),
    ("GET", "/tasks/.*:download:"),
    ("POST", "^/nodes/pve/qemu$"),
    ("PUT", "/qemu/102/resize$"),
    ("POST", "/qemu/102/status/start$"),
    ("POST", "/qemu/102/firewall/rules$"),
    ("PUT", "/qemu/102/firewall/options$"),
)
TASKS = ("download", "qmcreate", "resize", "qmstart")
CASES: list[dict[str, Any]] = [
    *({"method": method, "path": path, **kind} for method, path in CHANGES for kind in KINDS.values()),
    *({"kind": "task", "type": task, "message": "unable to do it: injected failure"} for task in TASKS),
]
PART = 7
"""One case of so many runs on a given day. It shares no factor with the number of kinds: they vary within a day."""


def todays(cases: list[Any], part: int) -> list[Any]:
    return cases if FULL else [case for index, case in enumerate(cases) if (index + index // len(KINDS) + SEED) % part == 0]


def name_of(fault: dict[str, Any]) -> str:
    if fault.get("kind") == "task":
        return f"task {fault['type']} fails"
    kind = next(name for name, kind in KINDS.items() if kind.items() <= fault.items())
    return f"{fault['method']} {fault['path']} {kind}"


@pytest.fixture(scope="module")
def faulty(make_lab: Callable[[], LabFolder]) -> LabFolder:
    return make_lab()


def fresh(lab: LabFolder) -> Any:
    """Begins anew, with a stranger's guest on the hypervisor."""
    lab.ok("sandbox", "reset", "--yes")
    lab.ok("sandbox", "start")
    api = lab.hypervisor()
    api.nodes("pve").qemu.post(vmid=900, name="photos", memory=512)
    return api


def strike(lab: LabFolder, *faults: dict[str, Any]) -> tuple[Result, list[dict[str, Any]]]:
    """An `up` under faults, and the faults with how often each struck."""
    home = lab.work / "sandbox"
    control(home, "DELETE", "faults")
    for fault in faults:
        control(home, "POST", "faults", fault)
    result = lab.run("up", "--yes", *FOUNDATION)
    listed: list[dict[str, Any]] = control(home, "GET", "faults")
    control(home, "DELETE", "faults")
    return result, listed


def assert_clear(result: Result) -> None:
    """One error with a hint, and no traceback."""
    assert result.code == 1, (result.code, result.err)
    assert "Traceback" not in result.out + result.err
    lines = result.err.splitlines()
    errors = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    assert len(errors) == 1, result.err
    assert any(line.startswith("  ") and line.strip() for line in lines[errors[0] + 1 :]), f"no hint:\n{result.err}"


def assert_goes_on(lab: LabFolder, pve: Any, before: dict[str, Any]) -> None:
    """The next `up` completes, no guest is there twice, and the stranger is as it was."""
    lab.ok("up", "--yes", *FOUNDATION)
    plan = lab.run("plan", "--detailed-exitcode", *FOUNDATION)
    assert plan.code == 0, plan.out[-2000:] + plan.err[-2000:]
    assert sorted((g["vmid"], g["name"]) for g in pve.cluster.resources.get(type="vm")) == [
        (101, "store"),
        (102, "vault"),
        (900, "photos"),
    ]
    assert pve.nodes("pve").qemu(900).config.get() == before
    assert len(pve.nodes("pve").qemu(102).firewall.rules.get()) == 1


def test_each_read_before_the_first_change(faulty: LabFolder) -> None:
    """Whatever the API does to a read, labctl survives it or stops clearly, and nothing was made."""
    pve = fresh(faulty)
    before = pve.nodes("pve").qemu(900).config.get()
    # Where a single failure is survived, `up` goes on to its first change, and is stopped there.
    stop = {"method": "POST", "path": "^/pools$|download-url$", "status": 500, "times": 0, "message": "stopped by the test"}
    survived = set()
    for at in range(READS):
        for index, kind in enumerate(KINDS):
            if not FULL and (at + SEED) % len(KINDS) != index:
                continue
            result, (fault, _) = strike(faulty, {"after": at, **KINDS[kind]}, stop)
            assert fault["struck"] == 1, (at, kind)
            assert_clear(result)
            if "stopped by the test" in result.err:
                survived.add((at, kind))
            assert [g["vmid"] for g in pve.cluster.resources.get(type="vm")] == [900], (at, kind)
            assert pve.pools.get() == []
    # labctl asks again where one answer fails; a missing right stays missing.
    own = {(at, kind) for at in range(OWN_READS) for index, kind in enumerate(KINDS) if FULL or (at + SEED) % len(KINDS) == index}
    assert {(at, kind) for at, kind in own if kind != "403"} <= survived
    assert (0, "403") not in survived
    assert_goes_on(faulty, pve, before)


def test_the_api_is_away_from_some_request_on(faulty: LabFolder) -> None:
    pve = fresh(faulty)
    before = pve.nodes("pve").qemu(900).config.get()
    for at in (0, 5, 14, 16) if FULL else (SEED % READS,):
        result, _ = strike(faulty, {"after": at, "times": 0, "drop": "before"})
        assert_clear(result)
    assert_goes_on(faulty, pve, before)


@pytest.mark.parametrize("fault", todays(CASES, PART), ids=name_of)
def test_a_change_fails_and_the_next_up_completes_it(faulty: LabFolder, fault: dict[str, Any]) -> None:
    pve = fresh(faulty)
    before = pve.nodes("pve").qemu(900).config.get()
    result, (listed,) = strike(faulty, fault)
    assert listed["struck"] == 1
    if result.code:
        assert_clear(result)
    assert_goes_on(faulty, pve, before)
