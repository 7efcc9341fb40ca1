"""A whole `labctl drift`, the world beside the states too, where something fails: each is an error that hides nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from labctl.sandbox import control
from tests.e2e.canary_life import store
from tests.e2e.labfolder import LabFolder

AREAS = {"proxmox", "vault", "store", "docker", "guests"}
PAGE = "<html><head><title>Log in to the proxy</title></head></html>"


@pytest.fixture(scope="module")
def up(make_lab: Callable[[], LabFolder]) -> LabFolder:
    lab = make_lab()
    lab.ok("up", "--yes")
    return lab


def check(lab: LabFolder, *args: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Exit code, document, and the verdict of each stack and area."""
    done = lab.run("drift", "--json", *args)
    document = json.loads(done.out)
    return done.code, document, {one["name"]: one["verdict"] for one in (*document["stacks"], *document["areas"])}


def test_a_lab_that_is_up_is_clean_in_every_format(up: LabFolder) -> None:
    files = [up.path / f"drift.{ending}" for ending in ("json", "md", "xml", "prom", "html")]
    code, document, verdicts = check(up, *(word for file in files for word in ("--report", str(file))))
    assert (code, document["result"], set(verdicts.values())) == (0, "clean", {"clean"})
    assert verdicts.keys() == {"foundation", "platform", *AREAS}
    assert all(document["areas"][i]["looked"] for i in range(3))
    for file in files:
        assert "e2e" in file.read_text(), file
    shown = up.ok("drift")
    assert shown.out.startswith("All is as described (2 stacks and 5 areas looked at)")
    refused = up.run("drift", "--report", "drift.pdf")
    assert (refused.code, ".html (html)" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 200, "body": PAGE}, "HTML"),
        ({"status": 401, "message": "token value expired"}, "token"),
        ({"drop": "before"}, "lost"),
    ],
    ids=["a proxy's page", "token expired", "no answer"],
)
def test_a_hypervisor_that_cannot_be_asked(up: LabFolder, fault: dict[str, Any], said: str) -> None:
    with up.fault(kind="http", times=0, **fault):
        code, document, verdicts = check(up)
    assert code == 1
    assert {name for name, verdict in verdicts.items() if verdict == "error"} == {"foundation", "platform", "proxmox", "guests"}
    assert (verdicts["vault"], verdicts["store"]) == ("clean", "clean")
    for stack in document["stacks"]:
        assert said.lower() in stack["problem"].lower(), stack
        assert stack["hint"], stack
    assert check(up)[2]["proxmox"] == "clean"


def test_a_slow_hypervisor_is_waited_for(up: LabFolder) -> None:
    with up.fault(kind="http", path="cluster/resources", delay_s=2.0, times=0):
        code, _, verdicts = check(up)
    assert (code, set(verdicts.values())) == (0, {"clean"})


def test_a_node_that_is_offline_hides_its_guests_and_nothing_else(up: LabFolder) -> None:
    home = up.work / "sandbox"
    control(home, "POST", "nodes/pve2", {"online": True})
    control(home, "POST", "guests/201/node", {"node": "pve2"})
    control(home, "POST", "nodes/pve2", {"online": False})
    try:
        code, document, verdicts = check(up)
    finally:
        control(home, "POST", "nodes/pve2", {"online": True})
        control(home, "POST", "guests/201/node", {"node": "pve"})
    proxmox = next(area for area in document["areas"] if area["name"] == "proxmox")
    assert (code, verdicts["proxmox"]) == (1, "error")
    assert any("pve2" in problem for problem in proxmox["problems"])
    assert verdicts["platform"] != "clean"
    assert {verdicts[name] for name in ("foundation", "vault", "store", "docker")} == {"clean"}
    assert not [one for one in document["inventory"]["missing"] if one["guest"] == "gitlab"], "it is out of sight, not gone"
    assert check(up)[0] == 0


def test_a_bucket_that_is_gone_is_named_and_takes_what_lies_in_it_along(up: LabFolder) -> None:
    client = store(up)
    versions = client.list_object_versions(Bucket="terraform")
    for kind in ("Versions", "DeleteMarkers"):
        for one in versions.get(kind, []):
            client.delete_object(Bucket="terraform", Key=one["Key"], VersionId=one["VersionId"])
    client.delete_bucket(Bucket="terraform")
    code, document, verdicts = check(up)
    missing = [one["address"] for one in document["inventory"]["missing"]]
    assert "bucket/terraform" in missing
    assert code == 1
    assert verdicts["foundation"] == "clean"
    assert verdicts["platform"] in ("error", "not deployed")
