"""Releases that go replica by replica, and back, on the real engine of this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from labctl.adapters.compose import ComposeEngine, LocalShell, ReleaseFailed, deploying
from labctl.adapters.terraform import (
    PROGRAM_VARIABLE,
    Terraform,
    TerraformError,
    ensure_launcher,
    find_engine,
    own_program,
    write_cli_config,
    write_lock_file,
)
from labctl.cli._errors import error_event, show_error
from labctl.model.compose import ComposeProject, differences
from labctl.model.errors import AdapterError
from labctl.model.ownprovider import OWN_PROVIDER, OWN_PROVIDER_VERSION
from tests.dockercompose import IMAGE, docker
from tests.dockerregistry import registry

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("compose")]

PREFIX = f"lcroll{os.getpid()}"
CHECK = {
    "test": ["CMD", "busybox", "wget", "-qO-", "http://127.0.0.1/healthy"],
    "interval": "0.3s",
    "timeout": "2s",
    "retries": 2,
}


def image(tag: str) -> str:
    return f"{PREFIX}:{tag}"


SERVE = (
    "echo this is $VERSION; busybox mkdir /tmp/www; echo $VERSION > /tmp/www/index.html; "
    "test -z $HEALTHY || touch /tmp/www/healthy; exec busybox httpd -f -p 80 -h /tmp/www"
)


def dockerfile(healthy: str) -> str:
    """A server that shows its version."""
    return f"FROM {IMAGE}\nENV VERSION=one HEALTHY={healthy}\nCMD {json.dumps(['sh', '-c', SERVE])}\n"


@pytest.fixture(scope="module")
def path(compose_path: Path) -> Iterator[Path]:
    docker("build", "-q", "-t", image("good"), "-", stdin=dockerfile("yes"))
    docker("build", "-q", "-t", image("bad"), "-", stdin=dockerfile(""))
    yield compose_path
    docker("rmi", "-f", image("good"), image("bad"))


@pytest.fixture
def engine(path: Path, monkeypatch: pytest.MonkeyPatch) -> ComposeEngine:
    monkeypatch.setattr(deploying, "SETTLE_S", 0.3)
    monkeypatch.setattr(deploying, "POLL_S", 0.1)
    return ComposeEngine(LocalShell(path=[path]))


Make = Callable[..., ComposeProject]


@pytest.fixture
def make(engine: ComposeEngine) -> Iterator[Make]:
    """Makes an app of two replicas, whose containers go at the end."""
    name = f"{PREFIX}-{uuid.uuid4().hex[:8]}"
    ports = free_ports(3)

    def project(version: str = "one", tag: str = "good", *, only: int = 2, shift: int = 0) -> ComposeProject:
        services = {
            service: {
                "image": image(tag),
                "environment": {"VERSION": version},
                "ports": [f"127.0.0.1:{ports[number + shift]}:80"],
                "healthcheck": CHECK,
                "stop_signal": "SIGKILL",
            }
            for number, service in enumerate(("web", "web-2")[:only])
        }
        return ComposeProject(name, json.dumps({"services": services}), wait_s=20.0)

    yield project
    engine.destroy(name, volumes=True)


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def ids(project: ComposeProject) -> dict[str, str]:
    shown = '{{.Label "com.docker.compose.service"}} {{.ID}}'
    lines = docker("ps", "-a", "--filter", f"label=com.docker.compose.project={project.name}", "--format", shown).splitlines()
    return dict(line.split() for line in lines)


def settled(engine: ComposeEngine, project: ComposeProject) -> bool:
    return not differences(engine.wanted(project), engine.found(project.name))


class Callers:
    """Ask all ports of a project all the time, each by itself; when each answered is kept."""

    def __init__(self, project: ComposeProject) -> None:
        services = json.loads(project.text)["services"].values()
        self.ports = [service["ports"][0].split(":")[1] for service in services]
        self.answered: dict[str, list[tuple[float, float]]] = {port: [] for port in self.ports}
        self.versions: dict[str, list[str]] = {port: [] for port in self.ports}
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(port,)) for port in self.ports]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        time.sleep(0.1)
        self.began = time.monotonic()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.ended = time.monotonic()
        time.sleep(0.1)
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, port: str) -> None:
        since = 0.0
        while not self._done.is_set():
            asked = time.monotonic()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
                    version = answer.read().decode().strip()
            except OSError:
                since = 0.0
            else:
                if not self.versions[port] or self.versions[port][-1] != version:
                    self.versions[port].append(version)
                if since:
                    # Between two answers without a failure it was there.
                    self.answered[port].append((since, time.monotonic()))
                since = asked
            time.sleep(0.01)

    def silence(self, *ports: str) -> float:
        """The longest time in which none of the ports answered, in seconds."""
        spans = sorted(span for port in ports or self.ports for span in self.answered[port])
        longest, covered = 0.0, self.began
        for begin, end in [*spans, (self.ended, self.ended)]:
            longest = max(longest, min(begin, self.ended) - covered)
            covered = max(covered, min(end, self.ended))
        return longest


def steps(told: list[str]) -> list[str]:
    return [line for line in told if line.startswith(("replacing", "putting"))]


def test_of_two_replicas_one_always_answers_while_a_release_goes_in_and_a_bad_one_back(engine: ComposeEngine, make: Make) -> None:
    one, two, bad = make("one"), make("two"), make("bad", tag="bad")
    engine.apply(one)
    before = ids(one)
    told: list[str] = []
    with Callers(one) as callers:
        engine.roll(two, one, progress=told.append)
    assert settled(engine, two)
    assert steps(told) == ["replacing web", "replacing web-2"]
    assert list(callers.versions.values()) == [["one", "two"]] * 2
    assert not set(before.values()) & set(ids(two).values())
    each = [callers.silence(port) for port in callers.ports]
    print(f"longest silence of each: {each}, of both: {callers.silence():.3f} s")
    assert all(silence > 0 for silence in each), "each was away for a moment"
    assert callers.silence() == 0

    before = ids(two)
    began = time.monotonic()
    with Callers(two) as callers, pytest.raises(ReleaseFailed) as caught:
        engine.roll(bad, two)
    print(f"taken back after {time.monotonic() - began:.1f} s, longest silence of both: {callers.silence():.3f} s")
    assert caught.value.back
    identity = docker("image", "inspect", "--format", "{{.Id}}", image("good"))
    assert caught.value.message == f"web did not become healthy; {two.name} is back on {image('good')} ({identity[:19]})"
    assert "Why: web: health is unhealthy, wanted healthy" in caught.value.hint
    assert "404 Not Found" in caught.value.hint, "what the check said"
    assert "this is bad" in caught.value.hint, "what it said itself"
    assert settled(engine, two)
    assert ids(two)["web-2"] == before["web-2"], "nobody touched it"
    assert callers.silence() == 0


# -- cut off -----------------------------------------------------------------------------------------------------------

ROLL = """\
import sys
from pathlib import Path
from labctl.adapters.compose import ComposeEngine, LocalShell
from labctl.model.compose import ComposeProject
name, new, old, path = sys.argv[1:]
engine = ComposeEngine(LocalShell(path=[Path(path)]))
say = lambda text: print(text, flush=True)
engine.roll(ComposeProject(name, new), ComposeProject(name, old), progress=say)
"""


def test_one_that_was_killed_is_finished_by_the_next_and_ports_that_move_are_free_when_wanted(
    engine: ComposeEngine, make: Make, path: Path
) -> None:
    one, moved = make("one"), make("two", shift=1)
    engine.apply(one)
    command = [sys.executable, "-c", ROLL, one.name, moved.text, one.text, str(path)]
    told: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line.strip())
            if told[-1] == "replacing web":
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert steps(told) == ["replacing web-2", "replacing web"], "the port that web is to have is web-2's before"
    first = ids(one)["web-2"]
    # What was killed may still have its client of the engine at work.
    time.sleep(1)
    engine.roll(moved, one)
    assert settled(engine, moved)
    assert ids(one)["web-2"] == first, "it was replaced already"
    # One replica less, and the other one wants its port.
    alone = make("two", shift=2, only=1)
    engine.roll(alone, moved)
    assert settled(engine, alone)
    assert list(ids(alone)) == ["web"]


# -- images ------------------------------------------------------------------------------------------------------------


def test_a_registry_that_is_down_has_lost_no_image(engine: ComposeEngine, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as address:
        kept = f"{address}/{PREFIX}:kept"
        docker("tag", IMAGE, kept)
        docker("push", "-q", kept)
        docker("rmi", kept)
        assert engine.has_image(kept), "it is fetched"
        docker("rmi", kept)
        assert not engine.has_image(f"{address}/{PREFIX}@sha256:{'0' * 64}")
        assert not engine.has_image(f"{address}/{PREFIX}-never:1")
    with pytest.raises(AdapterError, match="is there is not known") as caught:
        engine.has_image(kept)
    assert "registry cannot be reached" in caught.value.hint


# -- with Terraform ----------------------------------------------------------------------------------------------------


def test_terraform_keeps_the_state_and_labctl_says_what_is_there(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder, port = f"{PREFIX}-app", tmp_path / "app", free_ports(1)[0]
    for directory in (folder, tmp_path / "home"):
        directory.mkdir()
    mirror = tmp_path / "mirror"
    entry = ensure_launcher(mirror)
    write_cli_config(tmp_path / "terraformrc", mirror)
    environment = {PROGRAM_VARIABLE: own_program(), "PATH": os.pathsep.join([str(path), os.environ["PATH"]])}
    terraform = Terraform(
        find_engine(), folder, stack="mlserver", home=tmp_path / "home", cli_config=tmp_path / "terraformrc", env=environment
    )
    write_lock_file(folder, [entry.lock_entry()])

    with registry(tmp_path / "registry") as address:

        def pushed(tag: str) -> str:
            """The image by its digest."""
            docker("tag", image(tag), f"{address}/{PREFIX}:{tag}")
            docker("push", "-q", f"{address}/{PREFIX}:{tag}")
            digests = json.loads(docker("image", "inspect", "--format", "{{json .RepoDigests}}", image(tag)))
            return str(next(one for one in digests if one.startswith(address)))

        def write(reference: str, version: str) -> None:
            service = {"image": reference, "environment": {"VERSION": version}, "healthcheck": CHECK, "stop_signal": "SIGKILL"}
            text = json.dumps({"services": {"mlserver": {**service, "ports": [f"127.0.0.1:{port}:80"]}}})
            document = {
                "terraform": {"required_providers": {"labctl": {"source": OWN_PROVIDER, "version": OWN_PROVIDER_VERSION}}},
                "resource": {"labctl_compose_project": {"app": {"name": name, "compose": text, "rolling": True}}},
            }
            (folder / "main.tf.json").write_text(json.dumps(document))

        try:
            good, bad = pushed("good"), pushed("bad")
            write(good, "one")
            terraform.init()
            terraform.apply_unplanned()
            before = json.loads((folder / "terraform.tfstate").read_text())["resources"]
            write(bad, "bad")
            with pytest.raises(TerraformError) as caught:
                terraform.apply_unplanned()
            assert json.loads((folder / "terraform.tfstate").read_text())["resources"] == before
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                assert answer.read() == b"one\n"
            plan = terraform.plan(folder / "plan")
            assert [(one.address, one.action) for one in plan.planned] == [("labctl_compose_project.app", "update")]
        finally:
            ComposeEngine(LocalShell(path=[path])).destroy(name)
            docker("rmi", f"{address}/{PREFIX}:good", f"{address}/{PREFIX}:bad")

    monkeypatch.setenv("COLUMNS", "80")
    assert show_error(caught.value) == 1
    said = capsys.readouterr().err
    sentence = f"mlserver did not become healthy; {name} is back on {good}"
    assert said.splitlines()[0] == f"error: mlserver: labctl_compose_project.app: {sentence}"
    assert "  Why: mlserver: health is unhealthy, wanted healthy\n" in said
    assert "this is bad" in said
    assert error_event(caught.value)["text"] == sentence
    assert "this is bad" in error_event(caught.value)["hint"]
