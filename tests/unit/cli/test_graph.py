"""`labctl graph`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labctl.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lab.yaml").write_text("name: datalab\ntarget: {sandbox: {guests: appliance}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABCTL_LAB", raising=False)
    root = tmp_path / ".labctl" / "datalab"
    entries = {}
    for name, ups in (("foundation", []), ("platform", ["foundation"])):
        (root / "stacks" / name).mkdir(parents=True)
        (root / "stacks" / name / "cdk.tf.json").write_text("{}")
        entries[name] = {"synthesizedStackPath": f"stacks/{name}/cdk.tf.json", "workingDirectory": f"stacks/{name}"} | {
            "dependencies": ups
        }
    (root / "manifest.json").write_text(json.dumps({"stacks": entries}))
    return tmp_path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["graph", *args])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_tree_is_what_people_see(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert capsys.readouterr().out == "platform       not deployed\n└─ foundation  not deployed\n"


def test_programs_get_the_stacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "lab": "datalab",
        "stacks": [
            {"name": "foundation", "layer": "foundation", "depends_on": [], "status": "not deployed"},
            {"name": "platform", "layer": "platform", "depends_on": ["foundation"], "status": "not deployed"},
        ],
    }


@pytest.mark.parametrize(
    ("args", "file", "first"),
    [
        ((), "a.mmd", "flowchart LR"),
        ((), "a.gv", "digraph stacks {"),
        ((), "a.md", "platform       not deployed"),
        (("--format", "dot"), "a.mmd", "digraph stacks {"),
        (("--json",), "a.mmd", "{"),
    ],
)
def test_a_file_has_the_format_of_its_name_or_the_one_asked_for(
    folder: Path, args: tuple[str, ...], file: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*args, "--out", file) == 0
    assert (folder / file).read_text().splitlines()[0] == first
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--format", "mermaidd"), "Did you mean 'mermaid'?"),
        (("--format", "dot", "--json"), "exclude each other"),
        (("--out", "no/such/folder.dot"), "no/such/folder.dot: cannot be written"),
        (("--out", "lab.svg"), "apt-get install graphviz"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    folder: Path, args: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert run(*args) == 1
    assert sentence in capsys.readouterr().err
    assert not (folder / "lab.svg").exists()
