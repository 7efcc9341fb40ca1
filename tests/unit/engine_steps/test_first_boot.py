"""Waiting for cloud-init through an agent that may go away, hang, or tell of a failure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from labctl.adapters.proxmox import AgentUnavailable, ExecResult, FileMissing, ProxmoxFailed, StillRunning, Unreachable
from labctl.engine.interrupt import Interrupted
from labctl.engine.steps.cloudinit import BEGIN_AGAIN, FirstBoot
from labctl.model.errors import AdapterError, LabError
from labctl.model.guestfiles import SET_UP, USER_DATA

DONE = ExecResult(0, json.dumps({"status": "done", "extended_status": "done", "errors": [], "recoverable_errors": {}}), "")
RUNNING = ExecResult(0, json.dumps({"status": "running", "stage": "modules-final"}), "")
NOT_YET = ExecResult(0, json.dumps({"status": "not run", "extended_status": "not run"}), "")
FAILED = ExecResult(
    1,
    json.dumps(
        {
            "status": "error",
            "extended_status": "error - done",
            "errors": ["('scripts_user', RuntimeError('Runparts: 1 failures'))"],
        }
    ),
    "",
)
COMPLAINS = ExecResult(
    2,
    json.dumps({"status": "done", "extended_status": "degraded done", "recoverable_errors": {"WARNING": ["no such mirror"]}}),
    "",
)
DISABLED = ExecResult(0, json.dumps({"status": "disabled"}), "")
AWAY = AgentUnavailable("QEMU guest agent is not running", status=500)
HANGS = AgentUnavailable("VM 201 qga command 'guest-exec' failed - got timeout", status=500)
FORGOTTEN = ProxmoxFailed("Agent error: PID 1234 does not exist", status=500)
SLOW = StillRunning("cloud-init in guest 201 has not ended after 20 s")
DROPPED = Unreachable("the connection was lost during POST")


@dataclass
class Agent:
    """An agent that answers one thing after the other, the last one for ever."""

    answers: Sequence[ExecResult | LabError]
    log: str = "Setting up gitlab-ce\n"
    status_file: bytes | None = None
    cut_off: int = 0
    user_data: str = f"#cloud-config\nruncmd:\n  - touch {SET_UP}\n"
    asked: int = 0
    commands: list[list[str]] = field(default_factory=list)

    def file_read(self, _vmid: int, path: str, *, missing_ok: bool = False) -> bytes | None:
        if path == USER_DATA:
            return self.user_data.encode()
        if path != SET_UP:
            return self.status_file
        return None if self.cut_off else b""

    def exec(self, _vmid: int, argv: Sequence[str], timeout_s: float = 60.0) -> ExecResult:
        self.commands.append(list(argv))
        if argv[0] == "tail":
            return ExecResult(0, self.log, "")
        if argv[:2] == ["sh", "-c"]:
            self.cut_off -= 1
            raise AWAY
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, LabError):
            raise answer
        return answer


@dataclass
class Watched:
    boot: FirstBoot
    told: list[str]
    warned: list[str]


def watched(agent: Any, limit_s: float = 600, pause: Callable[[float], None] | None = None) -> Watched:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    told: list[str] = []
    warned: list[str] = []
    boot = FirstBoot(agent, "gitlab", 201, limit_s, told.append, warned.append, clock=lambda: now[0], pause=pause or sleep)
    return Watched(boot, told, warned)


def test_the_stage_and_the_last_line_are_told_while_it_runs() -> None:
    found = watched(Agent([RUNNING, RUNNING, DONE]))
    assert found.boot.wait() == 4.0
    assert found.told[0] == "guest gitlab: cloud-init running (modules-final): Setting up gitlab-ce, 0 s"
    assert found.warned == []


def test_a_guest_that_is_long_up_is_not_asked_to_run_anything() -> None:
    stage = {"errors": [], "recoverable_errors": {}, "start": 1.0, "finished": 2.0}
    names = ("init-local", "init", "modules-config", "modules-final")
    agent = Agent([FAILED], status_file=json.dumps({"v1": {"stage": None} | dict.fromkeys(names, stage)}).encode())
    assert watched(agent).boot.wait() == 0.0
    assert agent.commands == []


@pytest.mark.parametrize("trouble", [AWAY, HANGS, FORGOTTEN, SLOW, DROPPED], ids=lambda error: error.message[:30])
def test_a_reboot_and_an_agent_that_hangs_are_waited_for(trouble: LabError) -> None:
    found = watched(Agent([RUNNING, trouble, trouble, NOT_YET, RUNNING, DONE]))
    assert found.boot.wait() == 10.0
    assert f"guest gitlab: its agent does not answer ({trouble.message}), 2 s" in found.told


def test_a_guest_that_rebooted_in_the_middle_begins_again_once() -> None:
    agent = Agent([RUNNING, AWAY, DONE, DONE, AWAY, RUNNING, DONE], cut_off=1)
    found = watched(agent)
    assert found.boot.wait() > 0
    assert found.warned == ["guest gitlab rebooted in the middle of its first boot, which begins again"]
    assert [command for command in agent.commands if command[0] == "sh"] == [["sh", "-c", BEGIN_AGAIN]]
    with pytest.raises(AdapterError, match="rebooted again in the middle of its first boot"):
        watched(Agent([DONE], cut_off=9)).boot.wait()


def test_a_guest_from_before_there_was_a_mark_is_left_alone() -> None:
    agent = Agent([DONE], cut_off=1, user_data="#cloud-config\n")
    assert watched(agent).boot.wait() == 0.0
    assert BEGIN_AGAIN not in [word for command in agent.commands for word in command]


def test_a_failure_names_the_module_its_last_lines_and_the_way_in() -> None:
    log = "Get:1 http://deb.example.com\n\n\x1b[31mE: Unable to locate package gitlab-ce\x1b[0m\n"
    with pytest.raises(AdapterError) as caught:
        watched(Agent([RUNNING, FAILED], log=log)).boot.wait()
    error = caught.value
    assert "module scripts_user (the commands of the guest's document)" in error.message
    assert error.where == "guest gitlab"
    assert "  E: Unable to locate package gitlab-ce" in error.hint.splitlines()
    assert "`labctl console gitlab`" in error.hint
    assert "`labctl ssh gitlab`" in error.hint


def test_a_failure_is_told_though_its_log_cannot_be_read() -> None:
    class Mute(Agent):
        def exec(self, _vmid: int, argv: Sequence[str], timeout_s: float = 60.0) -> ExecResult:
            if argv[0] == "tail":
                raise AWAY
            return super().exec(_vmid, argv, timeout_s)

    with pytest.raises(AdapterError, match="module scripts_user"):
        watched(Mute([FAILED])).boot.wait()


def test_complaints_are_a_warning() -> None:
    found = watched(Agent([COMPLAINS]))
    found.boot.wait()
    assert found.warned == ["guest gitlab: cloud-init is done, with complaints: no such mirror"]


def test_what_never_runs_is_an_error_at_once() -> None:
    with pytest.raises(AdapterError, match="disabled"):
        watched(Agent([DISABLED])).boot.wait()
    with pytest.raises(AdapterError, match="has no cloud-init"):
        watched(Agent([FileMissing("Agent error: no such file", status=500)])).boot.wait()
    with pytest.raises(AgentUnavailable, match="configured"):
        watched(Agent([AgentUnavailable("No QEMU guest agent configured", status=500)])).boot.wait()


def test_the_time_is_limited_also_while_the_agent_is_away() -> None:
    for answer in (RUNNING, AWAY):
        with pytest.raises(AdapterError, match="has not ended after 30 s") as caught:
            watched(Agent([answer]), limit_s=30).boot.wait()
        assert "labctl console gitlab" in caught.value.hint


def test_a_signal_ends_the_wait() -> None:
    def interrupted(_seconds: float) -> None:
        raise Interrupted("interrupted")

    with pytest.raises(Interrupted):
        watched(Agent([RUNNING]), pause=interrupted).boot.wait()


def test_a_wait_for_something_else_learns_of_a_failure_only() -> None:
    for answer in (RUNNING, AWAY, DONE, COMPLAINS):
        watched(Agent([answer])).boot.require_no_failure()
    with pytest.raises(AdapterError, match="cloud-init failed"):
        watched(Agent([FAILED])).boot.require_no_failure()
