"""After a kill: the local state, the folders that Terraform works in, and who is waited for."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.terraform.records import ChildRecord, start_ticks, write_records
from labctl.engine import recovery, workspace
from labctl.engine.events import Event
from labctl.engine.interrupt import Interrupts
from labctl.engine.journal import Journal
from labctl.engine.labrun import LabRun
from labctl.engine.paths import LabPaths, replace_file
from labctl.engine.recovery import mend_state
from labctl.engine.run import Options, StackRun
from labctl.engine.waiting import wait_for_earlier
from labctl.model.labfile import parse_lab
from labctl.synth import Stack


@pytest.fixture
def run(tmp_path: Path) -> LabRun:
    """A run after one that was killed while it applied foundation."""
    lab = parse_lab("name: lab\ntarget: {sandbox: {}}\n", "lab.yaml")
    paths = LabPaths(tmp_path / "lab.yaml", lab.name)
    paths.create()
    killed = Journal(paths, "up")
    killed.write(Event("stack", "applying", "foundation", {"stage": "applying", "creates": ["a.b"]}))
    killed.close()
    killed.folder.rename(paths.runs / "20000101T000000Z-dead")
    journal, interrupts = Journal(paths, "up"), Interrupts(lambda _text: None)
    return LabRun(lab=lab, paths=paths, options=Options(), journal=journal, interrupts=interrupts, view=lambda _event: None)


def state(serial: int) -> str:
    return json.dumps({"version": 4, "serial": serial, "lineage": "x", "outputs": {}, "resources": []})


def serial(run: LabRun) -> int:
    return int(json.loads((run.paths.state / "foundation.tfstate").read_text())["serial"])


def cut_short(run: LabRun, *, backup: int | None = None, errored: int | None = None) -> None:
    (run.paths.state / "foundation.tfstate").write_text('{"version": 4, "ser')
    if backup is not None:
        (run.paths.state / "foundation.tfstate.backup").write_text(state(backup))
    if errored is not None:
        (run.paths.stacks / "foundation").mkdir()
        (run.paths.stacks / "foundation" / "errored.tfstate").write_text(state(errored))


@pytest.mark.parametrize(("backup", "errored"), [(7, None), (7, 5), (5, 7)])
def test_a_state_that_was_cut_short_is_put_back_from_the_newest_copy(run: LabRun, backup: int, errored: int | None) -> None:
    """An `errored.tfstate` may be there for months, from a disk that was full once."""
    cut_short(run, backup=backup, errored=errored)
    mend_state(run)
    assert serial(run) == 7
    assert [path.name for path in run.paths.state.glob("*broken*")] == ["foundation.tfstate.broken-20000101T000000Z-dead"]


def test_without_a_copy_nothing_was_there_before(run: LabRun) -> None:
    cut_short(run)
    mend_state(run)
    assert not (run.paths.state / "foundation.tfstate").exists()


@pytest.mark.parametrize("step", range(3))
def test_killed_in_the_middle_of_mending_there_is_still_a_state_to_mend(
    run: LabRun, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a state file the lab would count as never deployed."""
    cut_short(run, backup=7)
    steps = iter(range(3))

    def killed_at(action: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **named: Any) -> Any:
            if next(steps) == step:
                raise KeyboardInterrupt
            return action(*args, **named)

        return do

    monkeypatch.setattr(shutil, "copyfile", killed_at(shutil.copyfile))
    monkeypatch.setattr(recovery, "replace_file", killed_at(replace_file))
    monkeypatch.setattr(run.__class__, "say", killed_at(lambda *_args, **_fields: None))
    with contextlib.suppress(KeyboardInterrupt):
        mend_state(run)
    assert (run.paths.state / "foundation.tfstate").is_file()
    monkeypatch.undo()
    mend_state(run)
    assert serial(run) == 7


def test_an_earlier_terraform_is_waited_for_before_the_stacks_are_known(run: LabRun) -> None:
    """What comes next reads the local state, which that Terraform writes in place."""
    assert run.stacks == ()
    folder = run.paths.stacks / "foundation"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]) as other:
        write_records(
            folder / "terraform.pid", (ChildRecord(other.pid, start_ticks(other.pid), "apply", "2026-03-01 12:00:00 UTC"),)
        )
        wait_for_earlier(run)
        assert start_ticks(other.pid) == 0


# -- init ------------------------------------------------------------------------------------------------------------------


class Tool:
    """Terraform, which refuses to start over a memory of its backend that it cannot read."""

    def __init__(self, folder: Path) -> None:
        self.memory = folder / ".terraform" / "terraform.tfstate"
        self.inits = 0

    def cancel(self) -> bool:
        return False

    def init(self, *, reconfigure: bool) -> None:
        assert reconfigure
        if self.memory.exists():
            json.loads(self.memory.read_text())
        self.memory.parent.mkdir(exist_ok=True)
        self.memory.write_text("{}")
        self.inits += 1


@pytest.fixture
def stack(run: LabRun, monkeypatch: pytest.MonkeyPatch) -> StackRun:
    folder = run.paths.stacks / "foundation"
    folder.mkdir()
    (folder / "cdk.tf.json").write_text("{}")
    monkeypatch.setattr(workspace, "_init_hash", lambda *_: "a-hash")
    return StackRun(Stack("foundation", "foundation", folder, folder / "cdk.tf.json", ()))


def initialise(run: LabRun, stack: StackRun, tool: Tool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LabRun, "terraform", lambda *_: tool)
        workspace.terraform(run, stack)


@pytest.mark.parametrize("half", ["", "{", "[]", '{"hash": "a-h'])
@pytest.mark.parametrize("name", [".terraform/labctl-init.json", ".terraform/terraform.tfstate"])
def test_an_init_that_was_killed_is_made_again(run: LabRun, stack: StackRun, half: str, name: str) -> None:
    folder = stack.stack.folder
    (folder / ".terraform").mkdir()
    (folder / name).write_text(half)
    tool = Tool(folder)
    for _ in range(2):
        initialise(run, stack, tool)
    assert tool.inits == 1


def test_an_init_that_is_cut_off_does_not_count(run: LabRun, stack: StackRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stamp is from before, and may fit again later: an engine that was changed and changed back."""
    tool = Tool(stack.stack.folder)
    initialise(run, stack, tool)

    class Killed(Tool):
        def init(self, *, reconfigure: bool) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as other:
        other.setattr(workspace, "_init_hash", lambda *_: "another-hash")
        with pytest.raises(KeyboardInterrupt):
            initialise(run, stack, Killed(stack.stack.folder))
    initialise(run, stack, tool)
    assert tool.inits == 2


# -- files -----------------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ca-bundle.pem"
    replace_file(file, "one")

    def half(self: Path, text: str) -> None:
        self.write_bytes(text[: len(text) // 2].encode())
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        replace_file(file, "two two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("ca-bundle.pem", "one")]
