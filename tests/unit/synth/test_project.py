"""Any CDKTF project: what is read of it, when its app runs, what is said where that goes wrong. Apps are shell scripts here."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from labctl.model.errors import UserError
from labctl.sandbox.pids import start_time
from labctl.synth import read_manifest, read_project, synthesise_project
from labctl.synth.project import STAMP

WRITES = 'date +%N >> runs; mkdir -p "$CDKTF_OUTDIR" && cp -r made/. "$CDKTF_OUTDIR"'


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.documents({"web": {}})
        self.settings(app=WRITES)

    def settings(self, **settings: Any) -> None:
        (self.path / "cdktf.json").write_text(json.dumps(settings))

    def documents(self, stacks: dict[str, dict[str, Any]], **needs: list[str]) -> None:
        entries = {}
        for name, document in stacks.items():
            folder = self.path / "made" / "stacks" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cdk.tf.json").write_text(json.dumps(document))
            entries[name] = {
                "workingDirectory": f"stacks/{name}",
                "synthesizedStackPath": f"stacks/{name}/cdk.tf.json",
                "dependencies": needs.get(name, []),
            }
        (self.path / "made" / "manifest.json").write_text(json.dumps({"stacks": entries}))

    def synthesise(self, **options: bool) -> bool:
        """Whether the app ran."""
        found = synthesise_project(read_project(self.path), **options)
        assert found.fresh == (self.runs() > getattr(self, "_seen", 0))
        self._seen = self.runs()
        return found.fresh

    def runs(self) -> int:
        file = self.path.parent / "runs"
        return len(file.read_text().splitlines()) if file.is_file() else 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    for name in [name for name in os.environ if name.startswith(("CDKTF_", "TF_", "SYNTH_", "NODE_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "project").mkdir()
    made = Folder(tmp_path / "project")
    # Beside the project, not in it: what the app leaves in there is a source.
    made.settings(app=WRITES.replace(">> runs", ">> ../runs"))
    return made


def refused(folder: Folder) -> UserError:
    with pytest.raises(UserError) as caught:
        synthesise_project(read_project(folder.path))
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "does not exist"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"app": "x", "context": 3}', "cannot be read"),
        ("{}", "names no `app`"),
        ('{"app": " "}', "names no `app`"),
        ('{"app": ["python3", "main.py"]}', "names no `app`"),
    ],
)
def test_what_is_wrong_with_cdktf_json_is_named(folder: Folder, text: str | None, says: str) -> None:
    file = folder.path / "cdktf.json"
    file.unlink() if text is None else file.write_text(text)
    error = refused(folder)
    assert says in error.message
    assert error.where == str(file)


def test_the_file_itself_is_no_folder(folder: Folder) -> None:
    with pytest.raises(UserError, match="does not exist") as caught:
        read_project(folder.path / "cdktf.json")
    assert caught.value.hint == "Name the folder of a CDKTF project: --app DIR."


def test_an_app_that_fails_is_quoted_and_leaves_no_stamp(folder: Folder) -> None:
    assert folder.synthesise()
    folder.settings(app="seq 100; echo the reason >&2; exit 3")
    error = refused(folder)
    assert error.message == "the app ended with exit code 3"
    assert error.where == f"{folder.path / 'cdktf.json'}: seq 100; echo the reason >&2; exit 3"
    assert error.hint.splitlines()[-1] == "the reason"
    assert len(error.hint.splitlines()) == 30
    assert not (folder.path / "cdktf.out" / STAMP).exists()
    assert refused(folder).message == "the app ended with exit code 3"


def test_an_app_that_is_killed_or_silent_is_named(folder: Folder) -> None:
    folder.settings(app="kill -9 $$")
    assert refused(folder).message == "the app was killed by SIGKILL"
    folder.settings(app="exit 1")
    assert refused(folder).hint == "It said nothing. Run it by hand in that folder."


@pytest.mark.parametrize("earlier", [False, True])
def test_an_app_that_writes_nothing_is_not_taken_for_an_earlier_one(folder: Folder, earlier: bool) -> None:
    if earlier:
        folder.synthesise()
    folder.settings(app="true")
    error = refused(folder)
    assert error.message == f"the app ended well, but wrote no manifest.json into {folder.path / 'cdktf.out'}"
    assert "app.synth()" in error.hint


def test_the_app_is_run_only_where_something_that_it_may_read_has_changed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.synthesise()
    assert not folder.synthesise()
    (folder.path / "terraform.web.tfstate").write_text("{}")
    (folder.path / "node_modules").mkdir()
    (folder.path / "node_modules" / "index.js").write_text("")
    monkeypatch.setenv("SSH_CONNECTION", "another shell")
    assert not folder.synthesise()
    assert folder.synthesise(force=True)
    (folder.path / "main.py").write_text("print()")
    assert folder.synthesise()
    monkeypatch.setenv("STAGE", "production")
    assert folder.synthesise()
    settings = json.loads((folder.path / "cdktf.json").read_text())
    folder.settings(**settings, context={"region": "eu"})
    assert folder.synthesise()
    (folder.path / "cdktf.out" / "stacks" / "web" / "cdk.tf.json").write_text('{"edited": "by hand"}')
    assert folder.synthesise()
    assert not folder.synthesise()


def test_the_app_gets_what_the_cdktf_cli_gives(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_VAR_password", "for Terraform only")
    monkeypatch.setenv("SYNTH_HCL_OUTPUT", "true")
    monkeypatch.setenv("CDKTF_CONTEXT_JSON", '{"stage": "test", "region": "us"}')
    folder.settings(
        app=f"env > ../environment; {WRITES.replace('>> runs', '>> ../runs')}",
        output="build/terraform",
        context={"region": "eu"},
        terraformModules=["./modules/net", {"name": "db", "source": "../db"}, "terraform-aws-modules/vpc/aws@5"],
    )
    assert folder.synthesise()
    given = dict(line.split("=", 1) for line in (folder.path.parent / "environment").read_text().splitlines() if "=" in line)
    assert given["CDKTF_OUTDIR"] == str(folder.path / "build" / "terraform")
    assert given["SYNTH_HCL_OUTPUT"] == "false"
    assert given["NODE_OPTIONS"] == "--max-old-space-size=4096"
    assert "TF_VAR_password" not in given
    assert json.loads(given["CDKTF_CONTEXT_JSON"]) == {
        "stage": "test",
        "region": "eu",
        "cdktfRelativeModules": ["./modules/net", {"name": "db", "source": "../db"}],
    }


def test_an_app_that_is_cut_off_ends_with_all_it_has_started(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.settings(app="sleep 600 & echo $! > ../child; trap '' TERM; sleep 600")
    monkeypatch.setattr("labctl.synth.project._PATIENCE_S", 0.1)

    def cut_off(*_args: object) -> None:
        while not (folder.path.parent / "child").exists() or not (folder.path.parent / "child").read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("labctl.synth.project.subprocess.Popen.communicate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        synthesise_project(read_project(folder.path))
    child = int((folder.path.parent / "child").read_text())
    limit = time.monotonic() + 5
    while start_time(child):
        assert time.monotonic() < limit
        time.sleep(0.01)


def remote(kind: str, **config: Any) -> dict[str, Any]:
    return {"terraform_remote_state": {"up": {"backend": kind, "config": config}}}


@pytest.mark.parametrize(
    ("backend", "reference"),
    [
        ({"local": {"path": "/states/a"}}, remote("local", path="/states/a")),
        (
            {"local": {"path": "/states/a", "workspace_dir": "/w"}},
            remote("local", path="/states/../states/a", workspace_dir="/w"),
        ),
        ({"http": {"address": "http://s/a", "lock_address": "http://s/a/lock"}}, remote("http", address="http://s/a")),
        ({"s3": {"bucket": "b", "key": "a", "use_lockfile": True}}, remote("s3", bucket="b", key="a", region="eu")),
        (
            {"remote": {"organization": "o", "workspaces": {"name": "a"}}},
            remote("remote", organization="o", workspaces={"name": "a"}),
        ),
    ],
)
def test_a_stack_needs_those_whose_states_it_reads(folder: Folder, backend: dict[str, Any], reference: dict[str, Any]) -> None:
    folder.documents({"b": {"terraform": {"backend": backend}}, "a": {"data": reference}})
    found = {stack.name: stack for stack in read_manifest(folder.path / "made")}
    assert list(found) == ["b", "a"]
    assert found["a"].dependencies == ("b",)
    assert found["a"].reads == {"up": "b"}


def test_a_state_of_another_project_is_no_dependency(folder: Folder) -> None:
    folder.documents({"a": {"data": remote("s3", bucket="elsewhere", key="a")}})
    assert read_manifest(folder.path / "made")[0].dependencies == ()


def test_a_circle_is_named_edge_by_edge(folder: Folder) -> None:
    folder.documents({"a": {}, "b": {}, "c": {}}, a=["b"], b=["c"], c=["a"])
    error = refused(folder)
    assert error.message == "stacks need each other in a circle: 'a' needs 'b', 'b' needs 'c', 'c' needs 'a'"
    assert error.where == str(folder.path / "cdktf.out" / "manifest.json")


@pytest.mark.parametrize(
    "backend", [{"local": {"path": "/states/x"}}, {"s3": {"bucket": "b", "key": "x"}}, {"http": {"address": "http://s/x"}}]
)
def test_two_stacks_with_one_state_are_refused(folder: Folder, backend: dict[str, Any]) -> None:
    folder.documents({"a": {"terraform": {"backend": backend}}, "b": {"terraform": {"backend": backend}}})
    error = refused(folder)
    assert error.message == f"stacks 'a' and 'b' keep their states at the same place ({next(iter(backend))} backend)"
    folder.documents({"a": {}, "b": {}})
    assert [stack.name for stack in read_manifest(folder.path / "made")] == ["a", "b"]


def test_a_damaged_manifest_is_named(folder: Folder) -> None:
    (folder.path / "made" / "manifest.json").write_text('{"stacks": {"a": {}}}')
    assert "is not a readable synthesis" in refused(folder).message
