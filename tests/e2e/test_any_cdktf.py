"""CDKTF projects as its documentation shows them, Python and TypeScript: deployed, changed, diffed, destroyed by labctl alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cdktn import python_with_cdktn
from tests.e2e.appfolder import AppFolder
from tests.e2e.npm import cdktf_cli, node_modules, plain

APPS = Path(__file__).parent / "apps"
SOURCES = {"python": "main.py", "typescript": "main.ts"}
STACKS = ["network", "web-servers", "monitoring"]
OLD, NEW = "10.0.0.0", "10.1.0.0"


def make_project(language: str, folder: Path) -> AppFolder:
    """A copy of a project, whose app notes each of its runs."""
    shutil.copytree(APPS / language, folder, ignore=shutil.ignore_patterns("node_modules", "cdktf.out", ".labctl", "*.tfstate*"))
    if (folder / "package-lock.json").exists():
        (folder / "node_modules").symlink_to(node_modules(APPS / language))
    settings = json.loads((folder / "cdktf.json").read_text())
    settings["app"] = f"echo run >> {folder}.runs && {settings['app']}"
    (folder / "cdktf.json").write_text(json.dumps(settings))
    return AppFolder(folder)


def app_runs(app: AppFolder) -> int:
    return len(Path(f"{app.path}.runs").read_text().splitlines())


@pytest.fixture(scope="module", params=list(SOURCES))
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AppFolder:
    """A project that is deployed. Tests that use it leave it deployed and as it was written."""
    app = make_project(request.param, tmp_path_factory.mktemp("app") / request.param)
    first = app.run("plan", "--json", "--detailed-exitcode")
    assert first.code == 2, first.out + first.err
    counts = {stack["name"]: (stack["status"], stack["add"], stack["known_after"]) for stack in first.last_json["stacks"]}
    assert counts == {
        "network": ("not deployed", 1, []),
        "web-servers": ("not deployed", 2, ["network"]),
        "monitoring": ("not deployed", 1, ["web-servers"]),
    }
    assert app.results("up") == dict.fromkeys(STACKS, "applied")
    return app


@pytest.fixture
def source(deployed: AppFolder) -> str:
    return SOURCES[deployed.path.name]


def test_a_second_up_has_nothing_to_do_and_does_not_run_the_app(deployed: AppFolder) -> None:
    before = app_runs(deployed)
    result = deployed.ok("up", "--yes", "--json")
    assert result.last_json["result"] == "nothing to do"
    assert {stack["name"]: stack["result"] for stack in result.last_json["stacks"]} == dict.fromkeys(STACKS, "no changes")
    assert '"stage": "init"' not in result.out
    assert app_runs(deployed) == before
    deployed.ok("plan", "--synth")
    assert app_runs(deployed) == before + 1


def test_outputs_are_printed_and_sensitive_ones_only_when_asked_for(deployed: AppFolder) -> None:
    assert deployed.ok("output", "monitoring").out == f'dashboard = "https://example.net/{OLD}"\n'
    listed = deployed.ok("output", "web-servers").out
    assert OLD not in listed
    name = listed.split(" = ")[0]
    assert deployed.ok("output", "web-servers", name).out == f"{OLD}\n"
    assert json.loads(deployed.ok("output", "web-servers", "--json").out) == {name: OLD}


def test_a_change_reaches_the_last_stack_before_anything_is_applied(deployed: AppFolder, source: str) -> None:
    deployed.edit(source, OLD, NEW)
    try:
        result = deployed.run("plan", "--detailed-exitcode", "--json")
        assert result.code == 2
        found = {stack["name"]: (stack["status"], stack["change"], stack["known_after"]) for stack in result.last_json["stacks"]}
        assert found == {
            "network": ("changes", 1, []),
            "web-servers": ("changes", 1, ["network"]),
            "monitoring": ("changes", 1, ["web-servers"]),
        }
        for name in ("web-servers", "monitoring"):
            alone = deployed.call("terraform", f"-chdir=cdktf.out/stacks/{name}", "plan", "-detailed-exitcode", "-input=false")
            assert alone.code == 0, "plain terraform does not see the upstream's pending change"
        assert deployed.results("up") == dict.fromkeys(STACKS, "applied")
        assert deployed.run("plan", "--detailed-exitcode").code == 0
        assert deployed.ok("output", "monitoring", "dashboard").out == f"https://example.net/{NEW}\n"
    finally:
        deployed.edit(source, NEW, OLD)
        deployed.ok("up", "--yes")


def test_the_plain_cli_accepts_the_states(deployed: AppFolder) -> None:
    result = deployed.call(str(cdktf_cli()), "diff", "monitoring", "--skip-provider-lock")
    assert result.code == 0, result.out + result.err
    assert "No changes. Your infrastructure matches the configuration." in plain(result.out)
    assert deployed.run("plan", "--detailed-exitcode").code == 0


def test_down_by_glob_takes_what_needs_it_and_down_takes_the_rest(deployed: AppFolder) -> None:
    assert deployed.results("down", "web*") == {"monitoring": "destroyed", "web-servers": "destroyed"}
    assert len(deployed.state("network")["resources"]) == 1
    assert deployed.results("up", "web*") == {"network": "no changes", "web-servers": "applied"}
    assert deployed.results("down") == {"monitoring": "not started", "web-servers": "destroyed", "network": "destroyed"}
    for name in STACKS:
        assert (deployed.state(name)["resources"], deployed.state(name)["outputs"]) == ([], {})
    assert "Nothing to do" in deployed.ok("down", "--yes").out
    deployed.ok("up", "--yes")


def test_a_deploy_of_the_plain_cli_is_taken_as_it_is(tmp_path: Path) -> None:
    app = make_project("python", tmp_path / "python")
    done = app.call(str(cdktf_cli()), "deploy", "*", "--auto-approve", "--skip-provider-lock")
    assert done.code == 0, done.out + done.err
    result = app.run("plan", "--detailed-exitcode")
    assert result.code == 0, result.out + result.err
    assert app.results("down") == dict.fromkeys(STACKS, "destroyed")


def test_the_fork_cdktn_goes_on_with_the_same_states(tmp_path: Path) -> None:
    app = make_project("python", tmp_path / "python")
    app.ok("up", "--yes")
    app.edit("main.py", "from cdktf import", "from cdktn import")
    app.edit("cdktf.json", "python3", str(python_with_cdktn()))
    result = app.run("plan", "--detailed-exitcode")
    assert result.code == 0, result.out + result.err
    app.edit("main.py", OLD, NEW)
    assert app.results("up") == dict.fromkeys(STACKS, "applied")
    assert app.results("down") == dict.fromkeys(STACKS, "destroyed")
