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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from labctl.adapters.compose import ComposeEngine, Interrupted, LocalShell, NotConverged, ReleaseFailed, deploying
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
from labctl.model.ownprovider import OWN_PROVIDER, OWN_PROVIDER_VERSION
from labctl.model.secret import Secret
from tests.dockercompose import create_image, programs
from tests.dockerregistry import registry

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("compose")]

PREFIX = f"lcroll{os.getpid()}"
BASE = f"{PREFIX}-base:1"
CHECK = {
    "test": ["CMD", "busybox", "wget", "-qO-", "http://127.0.0.1/healthy"],
    "interval": "0.3s",
    "timeout": "2s",
    "retries": 2,
}


def image(version: str) -> str:
    return f"{PREFIX}:{version}"


def dockerfile(version: str) -> str:
    """A server that shows its version; the one of version `bad` is never healthy."""
    healthy = "" if version == "bad" else "echo yes > /www/healthy && "
    start = f"echo this is {version}; exec busybox httpd -f -p 80 -h /www"
    return f"""\
FROM {BASE}
RUN busybox mkdir /www && {healthy}echo {version} > /www/index.html
CMD ["sh", "-c", "{start}"]
"""


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    found = programs()
    create_image(str(found / "docker"), BASE)
    for version in ("one", "two", "bad"):
        docker("build", "-q", "-t", image(version), "-", stdin=dockerfile(version))
    yield found
    docker("rmi", "-f", *(image(version) for version in ("one", "two", "bad")), BASE)


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

    def project(version: str = "one", *, only: Sequence[str] = ("web", "web-2"), shift: int = 0, **more: Any) -> ComposeProject:
        given = {key: more.pop(key) for key in ("redeploy", "secrets", "content_key", "wait_s") if key in more}
        services = {
            service: {
                "image": image(version),
                "ports": [f"127.0.0.1:{ports[number + shift]}:80"],
                "healthcheck": CHECK,
                "stop_signal": "SIGKILL",
                **more.get(service, {}),
            }
            for number, service in enumerate(only)
        }
        rest = {key: value for key, value in more.items() if key not in only}
        return ComposeProject(name, json.dumps({"services": services, **rest}), **{"wait_s": 20.0, **given})

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


def docker(*words: str, stdin: str | None = None) -> str:
    program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    done = subprocess.run([program, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


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


# -- a release ---------------------------------------------------------------------------------------------------------


def test_while_two_replicas_are_replaced_one_always_answers(engine: ComposeEngine, make: Make) -> None:
    engine.apply(make("one"))
    before = ids(make())
    told: list[str] = []
    with Callers(make()) as callers:
        engine.roll(make("two"), make("one"), progress=told.append)
    assert settled(engine, make("two"))
    assert [line for line in told if line.startswith("replacing")] == ["replacing web", "replacing web-2"]
    assert all(versions == ["one", "two"] for versions in callers.versions.values())
    assert not set(before.values()) & set(ids(make()).values())
    each = {port: callers.silence(port) for port in callers.ports}
    print(f"longest silence of each: {each}, of all: {callers.silence():.3f} s")
    assert all(silence > 0 for silence in each.values()), "each was away for a moment"
    assert callers.silence() == 0


def test_a_forced_redeploy_goes_the_same_way(engine: ComposeEngine, make: Make) -> None:
    engine.apply(make())
    before = ids(make())
    with Callers(make()) as callers:
        engine.roll(make(redeploy="today"), make())
    assert not set(before.values()) & set(ids(make()).values())
    assert callers.silence() == 0


def test_ports_that_move_up_by_one_are_free_when_they_are_wanted(engine: ComposeEngine, make: Make) -> None:
    engine.apply(make())
    told: list[str] = []
    engine.roll(make(shift=1), make(), progress=told.append)
    assert settled(engine, make(shift=1))
    assert [line for line in told if line.startswith("replacing")] == ["replacing web-2", "replacing web"]
    # One replica less, and the other one has to have its port.
    engine.roll(make(shift=2, only=["web"]), make(shift=1))
    assert settled(engine, make(shift=2, only=["web"]))
    assert list(ids(make())) == ["web"]


def test_networks_and_replicas_that_come_and_go(engine: ComposeEngine, make: Make) -> None:
    alone, both = make(only=["web"]), make()
    engine.apply(alone)
    first = ids(alone)
    engine.roll(both, alone)
    assert settled(engine, both)
    assert ids(both)["web"] == first["web"], "it had not changed"
    joined = make(web={"networks": ["default", "more"]}, networks={"more": {}})
    engine.roll(joined, both)
    assert engine.found(both.name).networks == (f"{both.name}_default", f"{both.name}_more")
    engine.roll(alone, joined)
    assert settled(engine, alone)
    assert engine.found(both.name).networks == (f"{both.name}_default",)


# -- a bad one ---------------------------------------------------------------------------------------------------------


def test_a_bad_release_is_taken_back_before_the_second_replica_is_touched(engine: ComposeEngine, make: Make) -> None:
    engine.apply(make("one"))
    before = ids(make())
    began = time.monotonic()
    with Callers(make()) as callers, pytest.raises(ReleaseFailed) as caught:
        engine.roll(make("bad"), make("one"))
    print(f"taken back after {time.monotonic() - began:.1f} s, longest silence of all: {callers.silence():.3f} s")
    assert caught.value.back
    identity = docker("image", "inspect", "--format", "{{.Id}}", image("one"))
    assert caught.value.message == f"web did not become healthy; {make().name} is back on {image('one')} ({identity[:19]})"
    assert "web: health is unhealthy, wanted healthy" in caught.value.hint
    assert "404 Not Found" in caught.value.hint, "what the check said"
    assert "this is bad" in caught.value.hint, "what it said itself"
    assert settled(engine, make("one"))
    assert ids(make())["web-2"] == before["web-2"]
    assert callers.silence() == 0
    # The next one is good.
    engine.roll(make("two"), make("one"))
    assert settled(engine, make("two"))


def test_both_are_taken_back_where_the_second_one_fails(engine: ComposeEngine, make: Make) -> None:
    engine.apply(make("one"))
    told: list[str] = []
    with Callers(make()) as callers, pytest.raises(ReleaseFailed, match=r"web-2 did not become healthy; .* is back on"):
        engine.roll(make("two", **{"web-2": {"image": image("bad")}}), make("one"), progress=told.append)
    steps = [line for line in told if line.startswith(("replacing", "putting"))]
    assert steps == ["replacing web", "replacing web-2", "putting back web-2", "putting back web"]
    assert settled(engine, make("one"))
    assert callers.silence() == 0


def test_where_the_last_good_image_is_gone_it_is_said_what_is_there(engine: ComposeEngine, make: Make) -> None:
    engine.apply(make("one"))
    gone = make("one", web={"image": "127.0.0.1:9/none:1"}, **{"web-2": {"image": "127.0.0.1:9/none:1"}})
    with pytest.raises(ReleaseFailed, match=r"could not be put back on .*: an image cannot be fetched") as caught:
        engine.roll(make("bad"), gone)
    assert not caught.value.back
    assert "web running, unhealthy on" in caught.value.hint
    assert "web-2 running, healthy on" in caught.value.hint
    assert "registry cannot be reached" in caught.value.hint


def test_a_secret_that_nobody_can_work_with_stops_at_the_first_replica(engine: ComposeEngine, make: Make) -> None:
    check = {**CHECK, "test": ["CMD", "sh", "-c", 'test "$$(cat /run/secrets/pw)" = good']}
    more = {"healthcheck": check, "secrets": ["pw"]}
    given = {"web": more, "web-2": more, "content_key": Secret("key")}

    def with_secret(value: str) -> ComposeProject:
        project = make(**given)
        document = json.loads(project.text) | {"secrets": {"pw": {"environment": "PW"}}}
        return replace(project, text=json.dumps(document), secrets={"PW": Secret(value)})

    engine.apply(with_secret("good"))
    before = ids(make())
    with pytest.raises(NotConverged) as caught:
        # What it was is nowhere: the last good file with the secret of today is the same.
        engine.roll(with_secret("rotated-badly"), with_secret("rotated-badly"))
    assert "Not replaced: web-2." in caught.value.hint
    assert ids(make())["web-2"] == before["web-2"]
    engine.roll(with_secret("good"), with_secret("good"))
    assert settled(engine, with_secret("good"))


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


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_a_release_that_was_cut_off_is_finished_or_taken_back_by_the_next(
    engine: ComposeEngine, make: Make, path: Path, how: str
) -> None:
    old, new = make("one"), make("two")
    engine.apply(old)
    if how == "killed":
        command = [sys.executable, "-c", ROLL, old.name, new.text, old.text, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("replacing web-2"):
                    process.kill()
                    break
        assert process.returncode == -signal.SIGKILL
    else:
        stop = threading.Event()

        def tell(text: str) -> None:
            if text == "replacing web-2":
                stop.set()

        with pytest.raises(Interrupted):
            engine.roll(new, old, progress=tell, stop=stop)
    # What was cut off may still be at work in the engine's client.
    time.sleep(1)
    first = ids(old)["web"]
    if how == "killed":
        engine.roll(new, old)
        assert settled(engine, new)
        assert ids(old)["web"] == first, "it was replaced already"
    else:
        with pytest.raises(ReleaseFailed, match=r"web-2 did not become healthy; .* is back on .*:one"):
            engine.roll(make("two", **{"web-2": {"image": image("bad")}}), old)
        assert settled(engine, old)


# -- with Terraform ----------------------------------------------------------------------------------------------------


def test_terraform_keeps_the_state_and_labctl_says_what_is_there(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder, port = f"{PREFIX}-app", tmp_path / "app", free_ports(1)[0]
    for directory in (folder, tmp_path / "home", tmp_path / "context"):
        directory.mkdir()
    context = tmp_path / "context"
    mirror = tmp_path / "mirror"
    entry = ensure_launcher(mirror)
    write_cli_config(tmp_path / "terraformrc", mirror)
    environment = {PROGRAM_VARIABLE: own_program(), "PATH": os.pathsep.join([str(path), os.environ["PATH"]])}
    terraform = Terraform(
        find_engine(), folder, stack="mlserver", home=tmp_path / "home", cli_config=tmp_path / "terraformrc", env=environment
    )
    write_lock_file(folder, [entry.lock_entry()])

    with registry(tmp_path / "registry") as address:

        def write(version: str) -> None:
            (context / "Dockerfile").write_text(dockerfile(version))
            service = {"image": "${labctl_image.app.reference}", "healthcheck": CHECK, "stop_signal": "SIGKILL"}
            text = json.dumps({"services": {"mlserver": {**service, "ports": [f"127.0.0.1:{port}:80"]}}})
            project = {"name": name, "compose": text, "wait_timeout": 20, "rolling": True}
            built = {"name": f"{address}/{PREFIX}", "tag": version, "context": str(context), "context_hash": version}
            document = {
                "terraform": {"required_providers": {"labctl": {"source": OWN_PROVIDER, "version": OWN_PROVIDER_VERSION}}},
                "resource": {"labctl_image": {"app": built}, "labctl_compose_project": {"app": project}},
            }
            (folder / "main.tf.json").write_text(json.dumps(document))

        def state() -> dict[str, Any]:
            resources = terraform.state_pull()["resources"]
            return dict(next(one["instances"][0]["attributes"] for one in resources if one["type"] == "labctl_compose_project"))

        try:
            write("one")
            terraform.init()
            terraform.apply_unplanned()
            before = state()
            digest = before["services"]["mlserver"]["digest"]
            write("bad")
            with pytest.raises(TerraformError) as caught:
                terraform.apply_unplanned()
            assert state() == before
            monkeypatch.setenv("COLUMNS", "80")
            assert show_error(caught.value) == 1
            said = capsys.readouterr().err
            sentence = f"mlserver did not become healthy; {name} is back on {address}/{PREFIX}@{digest}"
            assert said.splitlines()[0] == f"error: mlserver: labctl_compose_project.app: {sentence}"
            assert "  Why: mlserver: health is unhealthy, wanted healthy\n" in said
            assert "this is bad" in said
            assert error_event(caught.value)["text"] == sentence
            assert "this is bad" in error_event(caught.value)["hint"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                assert answer.read() == b"one\n"
            plan = terraform.plan(folder / "plan")
            assert [(one.address, one.action) for one in plan.planned] == [("labctl_compose_project.app", "update")]
            write("two")
            terraform.apply_unplanned()
            assert state()["services"]["mlserver"]["digest"] not in ("", digest)
            assert not terraform.plan(folder / "plan").changes
        finally:
            ComposeEngine(LocalShell(path=[path])).destroy(name)
            for reference in docker("images", "--format", "{{.ID}}", f"{address}/{PREFIX}").split():
                docker("rmi", "-f", reference)
