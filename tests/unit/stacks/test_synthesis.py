from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.stackcontext import StackContext
from labctl.synth import read_manifest, synthesise
from labctl.synth.fingerprint import fingerprint


def times(context: StackContext) -> dict[str, int]:
    return {stack.name: stack.json.stat().st_mtime_ns for stack in synthesise(context).stacks}


def test_stacks_in_order_with_what_they_depend_on(lab: Callable[..., Lab], context: Callable[..., StackContext]) -> None:
    where = context(lab("sandbox"))
    synthesis = synthesise(where)
    assert [(s.name, s.layer, s.dependencies) for s in synthesis.stacks] == [
        ("foundation", "foundation", ()),
        ("platform", "platform", ("foundation",)),
    ]
    assert synthesis.fresh
    assert synthesis.stack("platform").json == where.outdir / "stacks" / "platform" / "cdk.tf.json"
    assert synthesis.stack("platform").folder == where.outdir / "stacks" / "platform"
    assert not [path for path in where.outdir.iterdir() if path.name.startswith(".")]


def test_the_second_time_nothing_is_done(lab: Callable[..., Lab], context: Callable[..., StackContext]) -> None:
    where = context(lab("sandbox"))
    first = synthesise(where)
    again = synthesise(where)
    assert (first.fresh, again.fresh) == (True, False)
    assert again.stacks == first.stacks
    assert synthesise(where, force=True).fresh


def test_an_unchanged_document_keeps_its_time(lab: Callable[..., Lab], context: Callable[..., StackContext]) -> None:
    before = times(context(lab("gpu")))
    after = times(context(lab("gpu", ("registry_port: 5051", "registry_port: 5052"))))
    assert after["foundation"] == before["foundation"]
    assert after["platform"] != before["platform"]


def test_what_a_killed_synthesis_left_is_removed(lab: Callable[..., Lab], context: Callable[..., StackContext]) -> None:
    where = context(lab("sandbox"))
    (where.outdir / ".synthesis-dead" / "stacks").mkdir(parents=True)
    synthesise(where)
    assert not [path for path in where.outdir.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("damage", ["edited", "removed", "stamp"])
def test_what_was_touched_is_made_again(damage: str, lab: Callable[..., Lab], context: Callable[..., StackContext]) -> None:
    where = context(lab("sandbox"))
    document = synthesise(where).stack("platform").json
    good = document.read_text()
    if damage == "edited":
        document.write_text(good.replace("gitlab", "gitlob"))
    elif damage == "removed":
        document.unlink()
    else:
        (where.outdir / "synthesis.json").write_text("[]")
    assert synthesise(where).fresh
    assert document.read_text() == good


def test_the_hash_covers_what_the_json_is_made_from(
    lab: Callable[..., Lab], context: Callable[..., StackContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = context(lab("gpu"))
    seen = {
        "base": fingerprint(base),
        "lab": fingerprint(context(lab("gpu", ("disks: tank", "disks: pond")))),
        "authority": fingerprint(context(lab("gpu"), authority_pem="-----BEGIN")),
        "protection": fingerprint(context(lab("gpu"), prevent_destroy=True)),
        "state": fingerprint(context(lab("gpu"), state_dir=base.outdir / "elsewhere")),
    }
    monkeypatch.setenv("LABCTL_CDK", "cdktn")
    seen["cdk"] = fingerprint(base)
    assert len(set(seen.values())) == len(seen)


def test_the_hash_does_not_know_where_the_lab_lies(lab: Callable[..., Lab], tmp_path: Path) -> None:
    def at(home: Path) -> StackContext:
        return StackContext(lab("sandbox"), "", home / "state", home)

    assert fingerprint(at(tmp_path / "a")) == fingerprint(at(tmp_path / "b" / "c"))


def test_the_hash_covers_code_and_layer_files(
    lab: Callable[..., Lab], context: Callable[..., StackContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("stacks", "layers"):
        (tmp_path / package / "deep").mkdir(parents=True)
        (tmp_path / package / "deep" / "file.rb").write_text("one")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        "labctl.synth.fingerprint.find_spec",
        lambda name: type("Spec", (), {"submodule_search_locations": [str(tmp_path / name)]})(),
    )
    seen = {fingerprint(context(lab("sandbox")))}
    (tmp_path / "layers" / "deep" / "file.rb").write_text("two")
    seen.add(fingerprint(context(lab("sandbox"))))
    (tmp_path / "stacks" / "deep" / "file.rb").write_text("two")
    seen.add(fingerprint(context(lab("sandbox"))))
    (tmp_path / "stacks" / "deep" / "file.rb").rename(tmp_path / "stacks" / "deep" / "other.rb")
    seen.add(fingerprint(context(lab("sandbox"))))
    assert len(seen) == 4
    (tmp_path / "stacks" / "__pycache__").mkdir()
    (tmp_path / "stacks" / "__pycache__" / "x.pyc").write_text("x")
    assert fingerprint(context(lab("sandbox"))) in seen


def test_a_fault_in_a_stack_names_file_and_line(
    lab: Callable[..., Lab], context: Callable[..., StackContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_request: object) -> str:
        raise ZeroDivisionError("no such guest")

    where = context(lab("sandbox"))
    good = synthesise(where).stack("foundation").json.read_text()
    monkeypatch.setattr("stacks.constructs.guest.user_data", broken)
    with pytest.raises(UserError, match="ZeroDivisionError: no such guest") as caught:
        synthesise(where, force=True)
    file, line = caught.value.where.split(":")
    assert file == "stacks/constructs/guest.py"
    source = (Path(__file__).parents[3] / file).read_text().splitlines()
    assert "user_data(" in source[int(line) - 1]
    # What was there before is still whole.
    assert read_manifest(where.outdir)[0].json.read_text() == good
    assert sorted(path.name for path in where.outdir.iterdir()) == ["manifest.json", "stacks", "synthesis.json"]


def test_an_error_about_the_lab_passes_as_it_is(lab: Callable[..., Lab], context: Callable[..., StackContext]) -> None:
    with pytest.raises(UserError, match="control character") as caught:
        synthesise(context(lab("gpu", ("on_boot: false", 'on_boot: false, time_zone: "Etc/\\aUTC"'))))
    assert "stacks/" not in caught.value.where


def test_a_folder_that_cannot_be_written_is_named(lab: Callable[..., Lab], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the synthesised stacks: Not a directory") as caught:
        synthesise(StackContext(lab("sandbox"), "", tmp_path / "state", tmp_path / "file" / "out"))
    assert str(tmp_path / "file") in caught.value.where


def test_reading_a_manifest_of_any_cdktf_project(tmp_path: Path) -> None:
    entries = {}
    for name, ups in {"z-base": [], "a-app": ["m-db", "z-base"], "m-db": ["z-base"]}.items():
        (tmp_path / "stacks" / name).mkdir(parents=True)
        (tmp_path / "stacks" / name / "cdk.tf.json").write_text("{}")
        entries[name] = {
            "dependencies": ups,
            "synthesizedStackPath": f"stacks/{name}/cdk.tf.json",
            "workingDirectory": f"stacks/{name}",
        }
    (tmp_path / "manifest.json").write_text(json.dumps({"stacks": entries, "version": "0.21.0"}))
    stacks = read_manifest(tmp_path)
    assert [(s.name, s.layer) for s in stacks] == [("z-base", "z-base"), ("m-db", "m-db"), ("a-app", "a-app")]
    entries["z-base"]["dependencies"] = ["a-app"]
    (tmp_path / "manifest.json").write_text(json.dumps({"stacks": entries}))
    with pytest.raises(UserError, match="need each other in a circle"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stacks": {"a": {}}}', '{"stacks": []}', '{"stacks": {"a": 1}}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="not a readable synthesis") as caught:
        read_manifest(tmp_path)
    assert caught.value.where == os.fspath(tmp_path / "manifest.json")


KILL_NODE = """
import os, signal, sys
from pathlib import Path
from labctl.model.labfile import parse_lab
from labctl.model.stackcontext import StackContext
from labctl.synth import synthesise
out = Path(sys.argv[1])
lab = parse_lab("name: lab\\ntarget: {sandbox: {}}\\n")
synthesise(StackContext(lab=lab, authority_pem="", state_dir=out / "state", outdir=out))
children = [int(p) for t in Path("/proc/self/task").iterdir() for p in (t / "children").read_text().split()]
assert children
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
"""


def test_a_ctrl_c_that_ended_node_leaves_no_traceback_at_exit(tmp_path: Path) -> None:
    """In a terminal it reaches every process of the group."""
    done = subprocess.run([sys.executable, "-c", KILL_NODE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
