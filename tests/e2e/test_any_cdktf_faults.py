"""What goes wrong with a CDKTF project: said in one sentence with a remedy, and gone on from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from labctl.sandbox.pids import start_time
from tests.e2e.appfolder import AppFolder, data, reading, upstream


@pytest.fixture
def app(tmp_path: Path) -> AppFolder:
    (tmp_path / "project").mkdir()
    return AppFolder(tmp_path / "project")


def chain(app: AppFolder, value: str = "1") -> dict[str, dict[str, Any]]:
    """`net` ← `web-1` ← `probe`, and `alone`."""

    def publishing(value: str) -> dict[str, Any]:
        return {"resource": data(x=value), "output": {"value": {"value": "${terraform_data.x.output}"}}}

    def behind(name: str) -> dict[str, Any]:
        return {"data": upstream(name, app.path / f"terraform.{name}.tfstate"), **publishing(reading(name))}

    return {"net": publishing(value), "web-1": behind("net"), "probe": behind("web-1"), "alone": {"resource": data(x="1")}}


def failing_unless(file: Path) -> dict[str, Any]:
    """A resource whose creation fails until the file exists."""
    script = f"test -e {file} || (echo the disk is on fire >&2; exit 7)"
    return {"provisioner": [{"local-exec": {"command": script}}]}


def complaint(app: AppFolder, *args: str, **env: str) -> str:
    """What a command that fails says on stderr."""
    result = app.run(*args, **env)
    assert result.code == 1, result.out + result.err
    return result.err


# -- before anything is planned ----------------------------------------------------------------------------------------


def test_a_project_that_is_none_is_named(app: AppFolder) -> None:
    file = app.path / "cdktf.json"
    assert complaint(app, "plan") == f"error: {file}: does not exist\n  Name the folder of a CDKTF project: --app DIR.\n"
    file.write_text("{")
    assert complaint(app, "up", "--yes").startswith(f"error: {file}: cannot be read: ")
    assert not (app.path / ".labctl").exists()


def test_an_app_that_fails_is_quoted(app: AppFolder) -> None:
    app.write({}, app="echo Traceback >&2; echo 'ValueError: no region' >&2; exit 1")
    said = complaint(app, "plan")
    assert said.startswith(f"error: {app.path / 'cdktf.json'}: echo Traceback")
    assert said.endswith(": the app ended with exit code 1\n  Traceback\n  ValueError: no region\n")


def test_names_and_options_that_do_not_fit_are_refused(app: AppFolder) -> None:
    app.write(chain(app))
    assert complaint(app, "plan", "web-11") == (
        "error: no stack is named 'web-11'\n  Did you mean 'web-1'? Known: alone, net, probe, web-1.\n"
    )
    assert "Did you mean 'probe'?" in complaint(app, "output", "prob")
    assert complaint(app, "plan", "--layer", "net").startswith(
        "error: --layer is for a lab; a CDKTF project has stacks\n  Name stacks"
    )
    assert complaint(app, "output", "net") == "error: stack 'net' is not deployed\n  Run `labctl up` first.\n"
    assert json.loads(app.run("plan", "nosuch", "--json").out.splitlines()[-1])["type"] == "error"


def test_a_circle_between_stacks_is_named_edge_by_edge(app: AppFolder) -> None:
    places = {name: app.path / f"terraform.{name}.tfstate" for name in "abc"}
    app.write({one: {"data": upstream(other, places[other])} for one, other in ("ab", "bc", "ca")})
    said = complaint(app, "plan")
    assert "manifest.json: stacks need each other in a circle: 'a' needs 'b', 'b' needs 'c', 'c' needs 'a'\n  Take one" in said


def test_ctrl_c_ends_the_app_with_all_it_has_started(app: AppFolder) -> None:
    app.write({}, app="sleep 600 & echo $! > ../child; wait")
    child = app.path.parent / "child"
    process = app.start("plan")
    _until(lambda: child.exists() and child.read_text().strip() != "", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "error: interrupted\n  Nothing was lost: run the command again to go on.\n"
    limit = time.monotonic() + 5
    while start_time(int(child.read_text())):
        assert time.monotonic() < limit
        time.sleep(0.002)


def test_two_runs_of_one_project_do_not_meet(app: AppFolder) -> None:
    app.write(chain(app), app="touch ../begun; sleep 600")
    first = app.start("plan")
    _until((app.path.parent / "begun").exists, first)
    assert f"error: project 'project' is in use by labctl plan (process {first.pid}," in complaint(app, "up", "--yes")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=30)
    assert first.returncode == 130


def _until(reached: Any, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 30
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.002)


# -- while it is planned and applied -----------------------------------------------------------------------------------


def test_a_failed_stack_blocks_what_needs_it_and_nothing_else(app: AppFolder) -> None:
    stacks = chain(app)
    mended = app.path.parent / "mended"
    stacks["web-1"]["resource"]["terraform_data"]["x"] |= failing_unless(mended)
    app.write(stacks)
    result = app.run("up", "--yes", "--json")
    assert result.code == 1
    report = {stack["name"]: (stack["result"], stack.get("blame")) for stack in result.last_json["stacks"]}
    assert report == {
        "net": ("applied", None),
        "alone": ("applied", None),
        "web-1": ("failed", None),
        "probe": ("blocked", "web-1"),
    }
    assert "web-1: terraform_data.x: " in result.err
    assert "the disk is on fire" in result.err
    assert "run the command again to go on" in result.err
    mended.touch()
    assert app.results("up") == {"alone": "no changes", "net": "no changes", "web-1": "applied", "probe": "applied"}


def test_fail_fast_starts_nothing_new(app: AppFolder) -> None:
    stacks: dict[str, Any] = {"a": {"resource": data(x="1")}, "b": {"resource": data(x="1")}}
    stacks["a"]["resource"]["terraform_data"]["x"] |= failing_unless(app.path / "nosuch")
    app.write(stacks)
    once = ("up", "--parallelism", "1")
    assert app.results(*once, "--fail-fast", code=1) == {"a": "failed", "b": "not started"}
    assert app.results(*once, code=1) == {"a": "failed", "b": "applied"}


def test_down_leaves_what_a_stack_needs_that_would_not_go(app: AppFolder) -> None:
    stacks = chain(app)
    stacks["web-1"]["resource"]["terraform_data"]["x"]["provisioner"] = [
        {"local-exec": {"when": "destroy", "command": "test -e ../../../../mended"}}
    ]
    app.write(stacks)
    app.ok("up", "--yes")
    results = app.results("down", code=1)
    assert results == {"probe": "destroyed", "web-1": "failed", "net": "blocked", "alone": "destroyed"}
    assert len(app.state("net")["resources"]) == 1
    (app.path.parent / "mended").touch()
    assert app.results("down") == {"probe": "not started", "web-1": "destroyed", "net": "destroyed", "alone": "not started"}


def test_only_says_what_is_missing(app: AppFolder) -> None:
    app.write(chain(app))
    for command in (["plan"], ["up", "--yes"]):
        assert complaint(app, *command, "web-1", "--only") == (
            "error: web-1: it reads net, which is not deployed\n  Without --only, what it needs comes first.\n"
        )
    assert app.results("up", "net", "--only") == {"net": "applied"}
    assert app.results("up", "web-1", "--only") == {"web-1": "applied"}
    assert app.statuses() == {"alone": "not deployed", "net": "no changes", "web-1": "no changes", "probe": "not deployed"}


def test_a_new_reference_to_a_deployed_stack_is_planned_and_applied(app: AppFolder) -> None:
    stacks = chain(app)
    stacks["web-1"]["variable"] = {"size": {"type": "string"}}
    app.write(stacks)
    (app.path / "made" / "stacks" / "web-1" / "terraform.tfvars").write_text('size = "small"')
    app.ok("up", "--yes")
    new = "cross-stack-output-id"
    stacks["net"]["output"] |= {new: {"value": "${terraform_data.x.id}"}}
    stacks["web-1"]["resource"]["terraform_data"] |= {"y": {"input": reading("net", new)}}
    app.write(stacks)
    said = complaint(app, "plan", "web-1", "--only")
    assert f"[web-1] The stack that it reads does not publish {new} yet.\n  Apply that stack first" in said
    assert app.statuses() == {"alone": "no changes", "net": "changes", "web-1": "changes", "probe": "no changes"}
    assert app.results("up") == {"alone": "no changes", "net": "applied", "web-1": "applied", "probe": "no changes"}


def test_a_stack_of_outputs_only_is_a_stack(app: AppFolder) -> None:
    place = app.path / "terraform.settings.tfstate"
    stacks = {"settings": {"output": {"region": {"value": "eu"}}}, "web": {"data": upstream("settings", place)}}
    stacks["web"]["resource"] = data(x=reading("settings", "region"))
    app.write(stacks)
    assert "settings: not deployed (1 output)" in app.ok("plan").out.replace("[", "").replace("]", ":")
    app.ok("up", "--yes")
    assert app.ok("output", "settings", "region").out == "eu\n"
    assert app.run("plan", "--detailed-exitcode").code == 0
    app.edit("made/stacks/settings/cdk.tf.json", '"eu"', '"us"')
    result = app.run("plan", "--detailed-exitcode")
    assert result.code == 2
    assert "input: eu → us" in result.out, "what is known is planned as known"
    app.ok("up", "--yes")
    assert app.results("down") == {"web": "destroyed", "settings": "destroyed"}
    assert app.state("settings")["outputs"] == {}


def test_a_kill_in_mid_apply_is_gone_on_from(app: AppFolder) -> None:
    begun = app.path.parent / "begun"
    stacks = {"slow": {"resource": data(x="1")}}
    stacks["slow"]["resource"]["terraform_data"]["x"]["provisioner"] = [
        {"local-exec": {"command": f"touch {begun}; for i in $(seq 600); do test -e {begun}.go && exit 0; sleep 0.05; done"}}
    ]
    app.write(stacks)
    process = app.start("up", "--yes")
    _until(begun.exists, process)
    pid = json.loads((app.path / "cdktf.out" / "stacks" / "slow" / "terraform.pid").read_text())[0]["pid"]
    process.kill()
    process.communicate()
    os.killpg(pid, signal.SIGKILL)
    Path(f"{begun}.go").touch()
    assert (app.path / ".terraform.slow.tfstate.lock.info").exists(), "the killed Terraform's lock is still there"
    assert app.results("up") == {"slow": "applied"}
    assert app.run("plan", "--detailed-exitcode").code == 0
