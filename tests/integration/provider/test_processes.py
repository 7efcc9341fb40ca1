"""The provider's process: from the mirror or attached to, interrupted, killed, and without whoever started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from labctl.adapters.terraform import PROGRAM_VARIABLE, REATTACH_VARIABLE, ensure_launcher
from labctl.model.ownprovider import OWN_PROVIDER, OWN_PROVIDER_VERSION
from labctl.sandbox.pids import start_time
from tests.integration.provider.conftest import NewStack, Run
from tests.ownprovider import ADDRESS, IDLE, ROOT, SLOW, TYPE, Stack, begun, taken_up
from tests.processes import children
from tests.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("provider")]

# Compose itself waits here, where it is labctl that waits above.
AFTER = (
    SLOW
    + IDLE.partition("    env")[0].removeprefix("services:\n").replace("idle:", "after:")
    + "    depends_on: {idle: {condition: service_healthy}}\n"
)
PARENT = """\
import json, os, time
from tests.ownprovider import run_provider
print(run_provider(json.loads(os.environ["ACCESS"])).reattach, flush=True)
time.sleep(300)
"""


@contextmanager
def parent(access: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs a provider, as labctl does, and how that is attached to."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCESS": json.dumps(dict(access))}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for sockets, whose paths may have no more than 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="lctest", dir="/tmp") as folder:
        yield Path(folder)


def known(reattach: str) -> tuple[int, Path]:
    """The provider's pid, and its socket."""
    found = json.loads(reattach)[OWN_PROVIDER]
    return found["Pid"], Path(found["Addr"]["String"])


def test_the_launcher_is_the_same_everywhere(tmp_path: Path) -> None:
    entry = ensure_launcher(tmp_path)
    # Stacks' lock files have it: another one refuses them on every machine.
    assert entry.h1 == "h1:SxcnQKVgMJVIe4hboqdvnvRcDI5WROnplkgKrkFSPvc="
    assert [path.name for path in entry.path.iterdir()] == [f"terraform-provider-labctl_v{OWN_PROVIDER_VERSION}"]


def test_a_plain_terraform_starts_it_from_the_mirror_without_a_network(launched: Stack) -> None:
    lock = (launched.folder / ".terraform.lock.hcl").read_text()
    assert OWN_PROVIDER in lock
    assert len([line for line in lock.splitlines() if "h1:" in line]) == 1
    launched.write(SLOW.replace("/tmp/go", "/tmp"))
    launched.apply()
    launched.settled()


@pytest.mark.parametrize(("way", "text"), [("stack", SLOW), ("launched", AFTER)], ids=["attached", "launched"])
def test_an_interrupted_create_ends_soon_and_is_taken_up_by_the_next(
    request: pytest.FixtureRequest, attached: dict[str, str], way: str, text: str
) -> None:
    stack: Stack = request.getfixturevalue(way)
    stack.write(text, wait_timeout=60)
    process = begun(stack)
    # As a terminal does it: to every process of the group.
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "was interrupted" in said
    assert time.monotonic() - began < 8
    assert stack.state() is None
    stack.environment |= attached
    taken_up(stack)


@pytest.mark.parametrize("killed", ["terraform", "provider"])
def test_a_create_whose_process_was_killed_is_taken_up_by_the_next(
    launched: Stack, attached: dict[str, str], short: Path, killed: str
) -> None:
    launched.write(AFTER, wait_timeout=60)
    launched.environment["TMPDIR"] = str(short)
    process = begun(launched)
    (provider,) = children(process.pid)
    assert list(short.glob("*/*.sock"))
    working = children(provider)
    assert working
    os.kill(process.pid if killed == "terraform" else provider, signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if killed == "terraform" else 1), said
    if killed == "terraform":
        # What nobody stores is not finished, and is not in the way of the next one.
        until(lambda: not any(map(start_time, (provider, *working))), 10)
        assert not list(short.glob("*/*.sock"))
    assert launched.state() is None
    launched.environment |= attached
    taken_up(launched)


def test_an_attached_provider_ends_with_labctl_and_not_at_an_interrupt(stack: Stack, run: Run) -> None:
    provider = run()
    pid, socket = known(provider.reattach)
    stack.environment |= {REATTACH_VARIABLE: provider.reattach, PROGRAM_VARIABLE: "/nowhere"}
    stack.write(IDLE)
    stack.plan()
    assert socket.exists()
    # What it starts must be able to be interrupted, and inherits what it ignores.
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    assert not int(ignored, 16) >> (signal.SIGINT - 1) & 1
    os.kill(pid, signal.SIGINT)
    stack.plan()
    provider.close()
    assert not start_time(pid)
    assert not socket.parent.exists()


def test_an_attached_provider_ends_when_labctl_is_killed() -> None:
    with parent({}) as (process, reattach):
        pid, socket = known(reattach)
        assert start_time(pid)
        process.kill()
        until(lambda: not start_time(pid), 10)
    assert not socket.parent.exists()


def test_a_change_is_finished_and_stored_when_labctl_is_killed(new_stack: NewStack, access: dict[str, str]) -> None:
    stack, other = new_stack("first"), new_stack("second")
    # One project after the other: the second one is begun when labctl is long gone.
    second = {"name": other.name, "compose": IDLE, "wait_timeout": 30, "depends_on": [ADDRESS]}
    stack.write(SLOW, wait_timeout=60, resources={TYPE: {"next": second}})
    with parent(access) as (process, reattach):
        stack.environment[REATTACH_VARIABLE] = reattach
        terraform = begun(stack)
        process.kill()
    stack.in_container("idle", "touch", "/tmp/go")
    said, _ = terraform.communicate(timeout=60)
    assert terraform.returncode == 0, said
    assert "2 added" in said
    until(lambda: not start_time(known(reattach)[0]))
