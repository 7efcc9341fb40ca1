"""Plans that tell the truth across layers."""

from __future__ import annotations

import signal
import subprocess

from tests.e2e.labfolder import LabFolder

REGION = "foundation: {store: {region: eu-central-1}}\n"


def test_a_first_plan_shows_every_layer(lab: LabFolder) -> None:
    result = lab.run("plan", "--detailed-exitcode", "--json")
    assert result.code == 2
    stacks = {stack["name"]: stack for stack in result.last_json["stacks"]}
    assert {name: (s["status"], s["add"], s["known_after"]) for name, s in stacks.items()} == {
        "foundation": ("not deployed", 10, []),
        "platform": ("not deployed", 8, ["foundation"]),
    }
    assert list((lab.work / "runs").glob("*/scratch/*")) == []


def test_a_change_upstream_shows_downstream_before_anything_is_applied(deployed: LabFolder) -> None:
    deployed.write(REGION)
    try:
        stacks = {s["name"]: s for s in deployed.run("plan", "--json").last_json["stacks"]}
        assert stacks["foundation"]["status"] == "changes"
        assert stacks["platform"]["replace"] == 1
        folder = deployed.work / "stacks" / "platform"
        plain = deployed.run("env", "--", "terraform", f"-chdir={folder}", "plan", "-detailed-exitcode", "-input=false")
        assert plain.code == 0, "plain terraform does not see the upstream's pending change"
        report = deployed.ok("up", "--yes", "--json").last_json
        assert [s["result"] for s in report["stacks"]] == ["applied", "applied"]
        assert deployed.run("plan", "--detailed-exitcode").code == 0
    finally:
        deployed.write("")
        deployed.ok("up", "--yes")


def test_only_one_layer(deployed: LabFolder) -> None:
    report = deployed.ok("up", "--yes", "--layer", "foundation", "--json").last_json
    assert [s["name"] for s in report["stacks"]] == ["foundation"]
    report = deployed.ok("up", "--yes", "--layer", "platform", "--json").last_json
    assert [s["name"] for s in report["stacks"]] == ["foundation", "platform"]
    report = deployed.ok("up", "--yes", "--layer", "platform", "--only", "--json").last_json
    assert [s["name"] for s in report["stacks"]] == ["platform"]


def test_two_runs_at_once_do_not_meet(deployed: LabFolder) -> None:
    from tests.e2e.labfolder import LABCTL

    first = subprocess.Popen(
        [str(LABCTL), "up", "--yes"],
        cwd=deployed.path,
        env=deployed.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    first.stdout.readline()
    first.send_signal(signal.SIGSTOP)  # it must not end before the second has looked
    try:
        second = deployed.run("up", "--yes")
    finally:
        first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, out + err
    assert second.code == 1
    assert f"in use by labctl up (process {first.pid}," in second.err
