"""States of CDKTF projects wherever they lie: local, `http`, `s3`, workspaces; their locks; and backends that change."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.appfolder import AppFolder, data, environment, reading
from tests.e2e.statehttp import StateServer, state_server
from tests.seaweed import KEY, SECRET, Store, running_store

CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
LOCK = {
    "ID": "11111111-2222-3333-4444-555555555555",
    "Operation": "OperationTypeApply",
    "Who": "ann@elsewhere",
    "Version": "1.11.4",
}
LOCK |= {"Created": "2026-01-02T03:04:05.000000006Z", "Info": ""}


@pytest.fixture
def app(tmp_path: Path) -> AppFolder:
    (tmp_path / "project").mkdir()
    return AppFolder(tmp_path / "project")


@pytest.fixture
def server() -> Iterator[StateServer]:
    with state_server() as held:
        yield held


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("store")) as found:
        yield found


def two(kind: str, net: dict[str, Any], web: dict[str, Any], value: str = "1", **reference: Any) -> dict[str, dict[str, Any]]:
    """`net`, and `web` that reads it, with their states in backends of one kind."""
    remote = {"net": {"backend": kind, "config": net, **reference}}
    return {
        "net": {
            "terraform": {"backend": {kind: net}},
            "resource": data(x=value),
            "output": {"value": {"value": "${terraform_data.x.output}"}},
        },
        "web": {
            "terraform": {"backend": {kind: web}},
            "data": {"terraform_remote_state": remote},
            "resource": data(x=reading("net")),
        },
    }


def live(app: AppFolder, stacks: Any, **env: str) -> None:
    """A project's whole life: each plan tells the truth, also of what follows from what is only planned."""
    app.write(stacks("1"))
    assert app.statuses(**env) == {"net": "not deployed", "web": "not deployed"}
    assert app.results("up", **env) == {"net": "applied", "web": "applied"}
    assert app.results("up", **env) == {"net": "no changes", "web": "no changes"}
    app.write(stacks("2"))
    result = app.run("plan", "--json", **env)
    assert [(s["name"], s["status"], s["change"]) for s in result.last_json["stacks"]] == [
        ("net", "changes", 1),
        ("web", "changes", 1),
    ]
    assert app.results("up", **env) == {"net": "applied", "web": "applied"}
    assert app.ok("output", "net", "value", **env).out == "2\n"
    assert app.results("down", **env) == {"web": "destroyed", "net": "destroyed"}


def test_states_behind_http(app: AppFolder, server: StateServer) -> None:
    live(app, lambda value: two("http", server.backend("net"), server.backend("web"), value))
    assert {method for method, _path in server.requests} == {"GET", "POST", "LOCK", "UNLOCK"}
    assert server.locks == {}
    assert [json.loads(state)["resources"] for state in server.states.values()] == [[], []]
    assert list(app.path.rglob("errored.tfstate")) == []


def test_states_in_s3(app: AppFolder, store: Store, tmp_path: Path) -> None:
    live(app, lambda value: two("s3", store.backend("net.tfstate"), store.backend("web.tfstate"), value), **CREDENTIALS)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_what_is_wrong_with_a_store_is_said_for_a_project_that_is_no_lab(app: AppFolder, store: Store) -> None:
    app.write(two("s3", store.backend("n", "nosuch"), store.backend("w", "nosuch")))
    result = app.run("plan", **CREDENTIALS)
    assert result.code == 1
    assert "net: The bucket for the state does not exist: nosuch.\n  Make it, or mend its name" in result.err
    app.write(two("s3", store.backend("n"), store.backend("w")))
    result = app.run("plan", HOME=str(app.path))
    assert result.code == 1
    assert "There are no credentials for the object store" in result.err
    assert "Set AWS_ACCESS_KEY_ID" in result.err
    app.write(two("http", {"address": "http://127.0.0.1:1/n"}, {"address": "http://127.0.0.1:1/w"}))
    result = app.run("plan")
    assert result.code == 1
    assert "Nothing listens at http://127.0.0.1:1" in result.err


def test_terraform_gets_the_shells_environment_but_for_what_labctl_relies_on(app: AppFolder) -> None:
    seen = app.path.parent / "environment"
    stack: dict[str, Any] = {"resource": data(x="${var.size}"), "variable": {"size": {}}}
    stack["resource"]["terraform_data"]["x"]["provisioner"] = [{"local-exec": {"command": f"env > {seen}"}}]
    app.write({"net": stack})
    app.ok("up", "--yes", TF_VAR_size="small", AWS_PROFILE="mine", HOME=str(app.path), TF_CLI_ARGS="-no-such", TF_DATA_DIR="else")
    given = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    assert (given["TF_VAR_size"], given["AWS_PROFILE"], given["HOME"]) == ("small", "mine", str(app.path))
    assert not given.keys() & {"TF_CLI_ARGS", "TF_DATA_DIR"}
    assert given["AWS_EC2_METADATA_DISABLED"] == "false", "the role of a cloud machine is for providers to use"


def test_states_of_a_workspace_that_the_environment_or_terraform_names(app: AppFolder) -> None:
    places = {name: {"path": f"{app.path}/{name}.tfstate", "workspace_dir": f"{app.path}/{name}"} for name in ("net", "web")}

    def stacks(value: str) -> dict[str, dict[str, Any]]:
        return two("local", places["net"], places["web"], value, workspace="${terraform.workspace}")

    app.write(stacks("1"))
    app.ok("up", "--yes")
    live(app, stacks, TF_WORKSPACE="test")
    assert (app.path / "web" / "test" / "terraform.tfstate").is_file()
    app.write(stacks("1"))
    assert app.statuses() == {"net": "no changes", "web": "no changes"}, "the default workspace is as it was"
    for name in ("net", "web"):
        done = app.call("terraform", f"-chdir=cdktf.out/stacks/{name}", "workspace", "select", "test")
        assert done.code == 0, done.err
    assert app.statuses() == {"net": "not deployed", "web": "not deployed"}


def test_a_lock_of_somebody_else_is_shown_and_not_broken(app: AppFolder, server: StateServer) -> None:
    local = {"path": str(app.path / "local.tfstate")}
    stacks = {
        kind: {"terraform": {"backend": {kind: settings}}, "resource": data(x="1")}
        for kind, settings in (
            ("local", local),
            ("http", server.backend("http")),
        )
    }
    app.write(stacks)
    app.ok("up", "--yes")
    server.locks["/http"] = json.dumps(LOCK).encode()
    begun = app.path.parent / "begun"
    stacks["local"]["resource"] = data(x="1", slow="1")
    stacks["local"]["resource"]["terraform_data"]["slow"]["provisioner"] = [
        {"local-exec": {"command": f"touch {begun}; for i in $(seq 600); do test -e {begun}.go && exit 0; sleep 0.1; done"}}
    ]
    app.write(stacks)
    app.ok("plan", "local", "--quiet")
    folder = app.path / "cdktf.out" / "stacks" / "local"
    other = subprocess.Popen(
        ["terraform", "apply", "-auto-approve", "-input=false"], cwd=folder, env=environment(), stdout=subprocess.DEVNULL
    )
    try:
        while not begun.exists():
            assert other.poll() is None
            time.sleep(0.05)
        result = app.run("plan")
    finally:
        Path(f"{begun}.go").touch()
        assert other.wait(30) == 0
    assert result.code == 1
    assert f"error: [http] The state is locked by somebody (operation unknown, lock {LOCK['ID']})" in result.err
    assert "error: [local] The state is locked by " in result.err
    assert f"terraform force-unlock {LOCK['ID']}" in result.err
    assert server.locks["/http"] == json.dumps(LOCK).encode()
    server.locks.clear()
    assert app.statuses() == {"local": "no changes", "http": "no changes"}


@pytest.mark.parametrize("to", ["path", "http", "back"])
def test_a_changed_backend_is_not_the_engines_to_move(app: AppFolder, server: StateServer, to: str) -> None:
    net, http = {"resource": data(x="1")}, {"terraform": {"backend": {"http": server.backend("net")}}}
    moved = {"terraform": {"backend": {"local": {"path": str(app.path / "moved.tfstate")}}}}
    app.write({"net": net if to != "back" else net | http})
    app.ok("up", "--yes")
    states = [*app.path.glob("*.tfstate")]
    before = [file.read_bytes() for file in states], dict(server.states)
    app.write({"net": net | (http if to == "http" else moved)})
    for command in (["plan"], ["up", "--yes"], ["down", "--yes"]):
        result = app.run(*command)
        assert result.code == 1, result.out
        assert "net" in result.err
        assert "The stack's work folder is set up for another state backend.\n  Nothing was changed" in result.err
        assert " init -migrate-state`" in result.err
    assert ([file.read_bytes() for file in states], dict(server.states)) == before
    folder = "cdktf.out/stacks/net"
    done = app.call("terraform", f"-chdir={folder}", "init", "-migrate-state", "-force-copy", "-input=false")
    assert done.code == 0, done.out + done.err
    assert app.run("plan", "--detailed-exitcode").code == 0
