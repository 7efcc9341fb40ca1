"""What was done to a lab behind labctl's back, named right; and what means nothing, left alone."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.labfolder import LabFolder

Seeded = Callable[[Any, Any], object]
VM = "proxmox_virtual_environment_vm"
NIGHT = datetime(2027, 3, 1, 3, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def up(make_lab: Callable[[], LabFolder]) -> LabFolder:
    """A lab that is up; the tests of this file drift it further and further, in their order."""
    lab = make_lab()
    lab.ok("up", "--yes")
    return lab


def check(lab: LabFolder, *args: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a check."""
    done = lab.run("drift", "--format", "json", "--no-inventory", *args)
    return done.code, json.loads(done.out)


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {stack["name"]: stack["verdict"] for stack in document["stacks"]}


def changes(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, tuple[Any, Any]]]:
    """Before and after by path, by address and kind."""
    return {
        (one["address"], one["kind"]): {c["path"]: (c["before"], c["after"]) for c in one["changes"]}
        for stack in document["stacks"]
        for one in stack["resources"]
    }


def state_of(lab: LabFolder) -> bytes:
    return (lab.work / "state" / "foundation.tfstate").read_bytes()


def settle(pve: Any, vmid: int, status: str) -> None:
    limit = time.monotonic() + 30
    while pve.nodes("pve").qemu(vmid).status.current.get()["status"] != status:
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_a_lab_that_was_never_up_is_not_deployed_and_is_not_made(lab: LabFolder) -> None:
    code, found = check(lab)
    assert code == 2
    assert verdicts(found) == {"foundation": "not deployed", "platform": "not deployed"}
    assert lab.json("sandbox", "status")["running"] is False
    assert list((lab.work / "keys").iterdir()) == []


def test_as_applied_it_is_clean_and_so_it_is_after_what_means_nothing(up: LabFolder) -> None:
    before = state_of(up)
    pve = up.hypervisor()
    guest = pve.nodes("pve").qemu(201)
    guest.config.put(tags="role-gitlab;labctl;e2e")  # the same tags in another order
    pve.pools.post(poolid="others")
    pve.nodes("pve").qemu.post(vmid=900, name="photos", memory=512, pool="others")
    guest.status.stop.post()
    settle(pve, 201, "stopped")
    guest.status.start.post()
    settle(pve, 201, "running")
    code, found = check(up)
    assert (code, found["result"], verdicts(found)) == (0, "clean", {"foundation": "clean", "platform": "clean"})
    assert state_of(up) == before
    assert not any((up.work / "runs").glob("*/*.tfplan"))


def test_a_code_change_is_pending_and_a_change_outside_is_drift(up: LabFolder) -> None:
    up.write("foundation: {store: {memory_mib: 3072}}\nplatform: {docker: {memory_mib: 20480}}\n")
    pve = up.hypervisor()
    pve.nodes("pve").qemu(201).config.put(memory=4096)
    pve.nodes("pve").qemu(202).config.put(cores=2)
    try:
        code, found = check(up)
    finally:
        up.write("")
    assert code == 2
    assert verdicts(found) == {"foundation": "pending", "platform": "drifted"}
    seen = changes(found)
    assert seen[(f"{VM}.store", "pending")]["memory.dedicated"][0] == 3072
    assert seen[(f"{VM}.gitlab", "changed")] == {"memory.dedicated": (8192, 4096)}
    assert list(seen[(f"{VM}.docker", "pending")]) == ["memory.dedicated"]
    assert list(seen[(f"{VM}.docker", "changed")]) == ["cpu.cores"]


def test_a_fix_applies_one_resource_and_refuses_where_it_would_touch_more(up: LabFolder) -> None:
    assert up.run("drift", "fix", f"{VM}.gitlab").code == 1  # nobody to ask
    up.ok("drift", "fix", f"{VM}.gitlab", "--yes")
    pve = up.hypervisor()
    assert int(pve.nodes("pve").qemu(201).config.get()["memory"]) == 8192
    assert pve.nodes("pve").qemu(202).config.get()["cores"] == 2
    again = up.run("drift", "fix", f"{VM}.gitlab", "--yes")
    assert (again.code, "nothing drifted there" in again.err) == (1, True)
    unknown = up.run("drift", "fix", f"{VM}.gitlib", "--yes")
    assert f"Did you mean '{VM}.gitlab'?" in unknown.err
    up.write("platform: {docker: {memory_mib: 20480}}\n")
    both = up.run("drift", "fix", f"{VM}.docker", "--yes")
    up.write("")
    assert (both.code, "the code changed there too" in both.err) == (1, True)


def test_a_guest_that_no_state_knows_is_imported_and_not_touched(up: LabFolder) -> None:
    folder = up.work / "stacks" / "foundation"
    up.ok("env", "--", "terraform", f"-chdir={folder}", "state", "rm", f"{VM}.store")
    guest = up.hypervisor().nodes("pve").qemu(101)
    before = guest.config.get()
    up.ok("import", "101", "--yes")
    assert guest.config.get() == before
    assert verdicts(check(up, "--layer", "foundation")[1]) == {"foundation": "clean"}
    assert "is in the state already" in up.run("import", "101", "--yes").err
    assert "no guest of the lab has VMID 900" in up.run("import", "900", "--yes").err


OUTSIDE: list[tuple[str, str, str, tuple[str, ...], str]] = [
    (f"{VM}.docker", "changed", "high", ("cpu.cores", "description", "disk.size", "name"), "name is renamed"),
    (f"{VM}.store", "changed", "medium", ("pool_id", "tags"), "pool_id is others, should be e2e"),
    (f"{VM}.vault", "changed", "high", ("network_device.firewall",), "is false, should be true"),
    (f"{VM}.gitlab", "changed", "medium", ("started",), "guest gitlab: is off, should run"),
    ("proxmox_virtual_environment_file.gitlab", "missing", "high", (), "snippet of guest gitlab was deleted outside"),
    ("proxmox_virtual_environment_firewall_options.gitlab", "changed", "high", ("enabled",), "should be true"),
    ("proxmox_virtual_environment_firewall_rules.vault", "changed", "high", ("rule",), "rule is not set"),
]


def test_many_changes_at_once_are_each_named(up: LabFolder) -> None:
    pve = up.hypervisor()
    node = pve.nodes("pve")
    node.qemu(202).config.put(name="renamed", description="mine")
    node.qemu(202).resize.put(disk="virtio0", size="+10G")
    node.qemu(101).config.put(tags="e2e;labctl;role-store;mine")
    pve.pools("others").put(vms="101", **{"allow-move": 1})
    net = node.qemu(102).config.get()["net0"]
    node.qemu(102).config.put(net0=net.replace("firewall=1", "firewall=0"))
    node.qemu(201).status.stop.post()
    settle(pve, 201, "stopped")
    node.storage("local").content("snippets/e2e-gitlab-user-data.yaml").delete()
    node.qemu(201).firewall.options.put(enable=0)
    node.qemu(102).firewall.rules(0).delete()
    code, found = check(up)
    assert (code, found["result"]) == (2, "drift")
    assert verdicts(found) == {"foundation": "drifted", "platform": "drifted"}
    seen = {one["address"]: one for stack in found["stacks"] for one in stack["resources"]}
    assert set(seen) == {row[0] for row in OUTSIDE}
    for address, kind, severity, paths, text in OUTSIDE:
        one = seen[address]
        assert (one["kind"], one["severity"], sorted(c["path"] for c in one["changes"])) == (kind, severity, list(paths)), one
        assert text in one["text"], one["text"]
        assert (one["guest"], one["node"]) == (address.rpartition(".")[2].replace("renamed", "docker"), "pve")


def test_a_deleted_guest_is_missing_and_so_is_what_was_set_for_it(up: LabFolder) -> None:
    before = up.run("drift", "--layer", "platform", "--format", "json").out
    assert "missing" in before
    pve = up.hypervisor()
    node = pve.nodes("pve")
    node.qemu(202).status.stop.post()
    settle(pve, 202, "stopped")
    node.qemu(202).delete()
    code, found = check(up, "--stack", "platform")
    assert code == 2
    missing = {one["address"]: one for stack in found["stacks"] for one in stack["resources"] if one["kind"] == "missing"}
    names = ("vm", "firewall_options", "firewall_rules")
    assert {f"proxmox_virtual_environment_{name}.docker" for name in names} <= set(missing)
    assert {missing[f"proxmox_virtual_environment_{name}.docker"]["guest"] for name in names} == {"docker"}
    assert not any(one["kind"] == "pending" for stack in found["stacks"] for one in stack["resources"])
    assert {entry["address"] for entry in found["inventory"]["missing"]} >= {f"{VM}.docker"}


def test_a_held_lab_is_locked_and_never_clean(up: LabFolder) -> None:
    with (up.work / "run.lock").open("a+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        code, found = check(up, "--lock-timeout", "0.5")
    assert (code, found["result"]) == (1, "error")
    assert verdicts(found) == {"foundation": "locked", "platform": "locked"}
    assert "in use by labctl" in found["stacks"][0]["problem"]
    assert not list((up.work / "drift").glob(".drift-*"))


def test_a_locked_state_is_locked_and_does_not_hide_the_other(up: LabFolder) -> None:
    with (up.work / "state" / "foundation.tfstate").open("r+") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX)
        code, found = check(up, "--lock-timeout", "0.5")
    assert (code, verdicts(found)) == (1, {"foundation": "locked", "platform": "drifted"})


def test_a_sealed_vault_is_an_error_of_what_stands_on_it_only(up: LabFolder) -> None:
    pve = up.hypervisor()
    guest = pve.nodes("pve").qemu(102)
    guest.status.stop.post()
    settle(pve, 102, "stopped")
    guest.status.start.post()
    settle(pve, 102, "running")
    code, found = check(up)
    assert code == 1
    assert verdicts(found) == {"foundation": "drifted", "platform": "error"}
    platform = found["stacks"][1]
    assert (platform["resources"], bool(platform["problem"]), bool(platform["hint"])) == ([], True, True)
    up.ok("vault", "unseal")


def test_a_week_of_nights(up: LabFolder) -> None:
    tags, pool = f"{VM}.store", f"{VM}.vault"

    def night(number: int) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
        at = (NIGHT + timedelta(days=number)).isoformat()
        code, found = check(up, "--layer", "foundation", "--now", at)
        return code, {one["address"]: one for stack in found["stacks"] for one in stack["resources"]}, found

    (up.work / "drift" / "memory.json").unlink()
    code, found, _ = night(0)
    assert (code, found[tags]["new"], found[tags]["seen"]) == (2, True, 1)
    code, found, _ = night(1)
    assert (found[tags]["new"], found[tags]["seen"], found[tags]["first_seen"]) == (False, 2, NIGHT.isoformat())
    day = NIGHT + timedelta(days=2)
    for address in found:
        up.ok(
            *("drift", "accept", address, "--reason", "a trial", "--owner", "ops", "--now", NIGHT.isoformat()),
            *("--until", day.date().isoformat()),
        )
    code, found, document = night(2)
    assert (code, document["result"], found[tags]["accepted"]["reason"]) == (0, "clean", "a trial")
    code, found, _ = night(3)
    assert (code, found[tags]["accepted"], found[tags]["expired"]["owner"]) == (2, None, "ops")
    up.ok("drift", "fix", pool, "--yes")
    code, found, document = night(4)
    assert pool not in found
    assert [one["id"] for one in document["gone"]] == [pool]
    assert len(list((up.work / "drift").glob("202703*.json"))) == 5
    (up.path / "drift.yaml").unlink()


def test_a_sandbox_that_is_off_is_an_error_and_stays_off(up: LabFolder) -> None:
    up.ok("sandbox", "stop")
    code, found = check(up)
    assert (code, verdicts(found)) == (1, {"foundation": "error", "platform": "error"})
    assert "not running" in found["stacks"][0]["problem"]
    assert up.json("sandbox", "status")["running"] is False
