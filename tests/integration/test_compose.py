"""Compose projects on the real engine of this machine, over its socket and over a real sshd.

A changed file, a changed secret, another image behind a tag, a network that is gone, and an interrupt are in
tests/integration/provider.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.compose import (
    ComposeEngine,
    ComposeInvalid,
    EngineUnreachable,
    Interrupted,
    LocalShell,
    NotConverged,
    ShellError,
    SshShell,
    deploying,
)
from labctl.adapters.pki import create_ssh_key
from labctl.model.compose import ComposeProject, differences
from labctl.model.errors import AdapterError, UserError
from labctl.model.secret import Secret
from tests.dockercompose import IMAGE, POLL_S, PREFIX, SETTLE_S, Sshd, clear, containers, docker, sshd
from tests.dockerregistry import false_registry
from tests.processes import watched
from tests.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("compose")]

PASSWORD = "correct 'horse' $HOME"  # words of a shell that must come through as they are
SLEEP = {"image": IMAGE, "command": ["sleep", "900"], "stop_signal": "SIGKILL"}
ALONE = {**SLEEP, "network_mode": "none"}
CHECK = {"test": ["CMD", "test", "-e", "/tmp/ready"], "interval": "0.3s", "timeout": "2s", "retries": 2}

Make = Callable[..., ComposeProject]


@pytest.fixture(scope="module")
def engine(compose_path: Path) -> ComposeEngine:
    return ComposeEngine(LocalShell(path=[compose_path]))


@pytest.fixture
def make(compose_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes projects whose containers go at the end."""
    monkeypatch.setattr(deploying, "SETTLE_S", SETTLE_S)
    monkeypatch.setattr(deploying, "POLL_S", POLL_S)
    names: list[str] = []

    def project(services: dict[str, Any], secrets: dict[str, str] | None = None, **more: Any) -> ComposeProject:
        given = {key: more.pop(key) for key in ("wait_s", "redeploy") if key in more}
        names.append(f"{PREFIX}-{uuid.uuid4().hex[:8]}")
        text = json.dumps({"services": services, **more})
        values = {name: Secret(value) for name, value in (secrets or {}).items()}
        return ComposeProject(names[-1], text, values, Secret("key"), **{"wait_s": 30.0, **given})

    yield project
    for name in names:
        clear(name)


def kinds(engine: ComposeEngine, project: ComposeProject) -> set[tuple[str, str]]:
    return {(one.service, one.what) for one in differences(engine.wanted(project), engine.found(project.name))}


# -- drift -------------------------------------------------------------------------------------------------------------


def test_what_is_applied_does_not_differ_and_what_is_done_by_hand_does(engine: ComposeEngine, make: Make) -> None:
    project = make({"web": SLEEP, "db": {**SLEEP, "networks": ["back"]}}, networks={"back": {}})
    assert kinds(engine, project) == {("web", "missing"), ("db", "missing"), ("", "networks")}
    state = engine.apply(project)
    assert not kinds(engine, project)
    assert state.services["web"].state == "running"
    assert state.networks == (f"{project.name}_back", f"{project.name}_default")
    first = containers(project.name, "db")

    def mended(expected: set[tuple[str, str]]) -> None:
        assert kinds(engine, project) == expected
        engine.apply(project)
        assert not kinds(engine, project)

    docker("network", "disconnect", f"{project.name}_default", *containers(project.name, "web"))
    mended({("web", "networks")})
    docker("rm", "-f", *containers(project.name, "web"))
    mended({("web", "missing")})
    assert containers(project.name, "db") == first, "nothing was wrong with it"


def test_scale_and_orphans(engine: ComposeEngine, make: Make) -> None:
    project = make({"web": {**ALONE, "scale": 2}, "old": ALONE})
    engine.apply(project)
    assert not kinds(engine, project)
    docker("rm", "-f", containers(project.name, "web")[0])
    assert kinds(engine, project) == {("web", "count")}
    none = replace(project, text=project.text.replace('"scale": 2', '"scale": 0'))
    assert engine.wanted(none).services.keys() == {"old"}
    fewer = replace(project, text=json.dumps({"services": {"web": ALONE}}))
    assert kinds(engine, fewer) == {("old", "orphan")}
    engine.apply(project)
    assert kinds(engine, fewer) == {("old", "orphan"), ("web", "count")}
    engine.apply(fewer)
    assert not kinds(engine, fewer)
    assert containers(project.name, "old") == []


def test_a_one_shot_is_done_when_it_ended_well_and_tells_why_when_it_did_not(engine: ComposeEngine, make: Make) -> None:
    once = {"image": IMAGE, "command": ["true"], "network_mode": "none", "labels": {"labctl.one-shot": "true"}}
    project = make({"init": once, "web": {**ALONE, "depends_on": {"init": {"condition": "service_completed_successfully"}}}})
    assert engine.apply(project).services["init"].state == "completed"
    assert not kinds(engine, project)
    bad = make({"init": {**once, "command": ["sh", "-c", "echo no such table; exit 3"]}})
    with pytest.raises(NotConverged) as caught:
        engine.apply(bad)
    assert "init: state is exited" in str(caught.value)
    assert "no such table" in caught.value.hint


# -- what fails --------------------------------------------------------------------------------------------------------


def test_a_restart_loop_without_a_health_check_fails_fast_with_its_lines(engine: ComposeEngine, make: Make) -> None:
    loop = {
        "image": IMAGE,
        "command": ["sh", "-c", "echo cannot log in with $$PW; exit 1"],
        "environment": {"PW": "${PW}"},
        "restart": "always",
    }
    project = make({"web": loop}, {"PW": PASSWORD}, wait_s=60.0)
    began = time.monotonic()
    with pytest.raises(NotConverged) as caught:
        engine.apply(project)
    assert time.monotonic() - began < 20
    assert "cannot log in with ***" in caught.value.hint
    assert PASSWORD not in str(caught.value) + caught.value.hint + caught.value.log


def test_a_container_that_was_restarted_long_ago_is_up(engine: ComposeEngine, make: Make) -> None:
    fails = "n=$$(cat /tmp/n || echo); echo $${n}x >/tmp/n; test $${#n} -gt 3 || exit 1; exec sleep 900"
    project = make({"web": {**ALONE, "command": ["sh", "-c", fails], "restart": "always"}})
    with contextlib.suppress(NotConverged):
        engine.apply(project)
    (before,) = containers(project.name, "web")
    deadline = time.monotonic() + 20
    while docker("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", before) != "4 running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert engine.apply(project).services["web"].state == "running"
    assert containers(project.name, "web") == [before]


def test_a_paused_container_is_made_anew(engine: ComposeEngine, make: Make) -> None:
    project = make({"web": ALONE})
    engine.apply(project)
    docker("pause", *containers(project.name, "web"))
    assert kinds(engine, project) == {("web", "state")}
    assert engine.apply(project).services["web"].state == "running"


def test_the_check_of_an_image_is_waited_for(engine: ComposeEngine, make: Make) -> None:
    tag = f"{PREFIX}-{uuid.uuid4().hex[:8]}:1"
    file = f"FROM {IMAGE}\nHEALTHCHECK --interval=1s --retries=1 CMD test -e /tmp/ready\n"
    docker("build", "-q", "-t", tag, "-", stdin=file)
    try:
        project = make({"web": {**ALONE, "image": tag, "command": ["sh", "-c", "sleep 1; touch /tmp/ready; exec sleep 900"]}})
        assert engine.apply(project).services["web"].health == "healthy"
        assert kinds(engine, project) == set()
    finally:
        engine.destroy(project.name)
        docker("rmi", "-f", tag)


def test_an_unhealthy_service_is_told(engine: ComposeEngine, make: Make) -> None:
    project = make({"web": {**ALONE, "healthcheck": CHECK}}, wait_s=3.0)
    with pytest.raises(NotConverged, match="web: health is unhealthy, wanted healthy"):
        engine.apply(project)
    docker("exec", *containers(project.name, "web"), "touch", "/tmp/ready")
    assert engine.apply(project).services["web"].health == "healthy"


def test_an_image_that_cannot_be_had(engine: ComposeEngine, make: Make) -> None:
    with pytest.raises(AdapterError, match=r"an image cannot be fetched: .*127\.0\.0\.1:1") as caught:
        engine.apply(make({"web": {**ALONE, "image": "127.0.0.1:1/lctest/none:1"}}))
    assert "registry cannot be reached" in caught.value.hint


def test_an_image_that_is_not_what_is_pinned(engine: ComposeEngine, make: Make) -> None:
    with false_registry() as address, pytest.raises(AdapterError, match="an image cannot be fetched") as caught:
        engine.apply(make({"web": {**ALONE, "image": f"{address}/lctest/none@sha256:{'0' * 64}"}}))
    assert "What came is not what is pinned" in caught.value.hint


def test_a_file_that_compose_refuses(engine: ComposeEngine, make: Make) -> None:
    with pytest.raises(ComposeInvalid, match="comand"):
        engine.wanted(make({"web": {**ALONE, "comand": ["x"]}}))
    with pytest.raises(ComposeInvalid, match="undefined network"):
        engine.apply(make({"web": {**SLEEP, "networks": ["nowhere"]}}))
    with pytest.raises(UserError, match="not a name"):
        engine.wanted(replace(make({"web": ALONE}), name="Not A Name"))


def test_a_port_that_is_taken(engine: ComposeEngine, make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        project = make({"web": {**SLEEP, "ports": [f"127.0.0.1:{port}:80"]}})
        with pytest.raises(NotConverged) as caught:
            engine.apply(project)
        assert "Set another port" in caught.value.hint
    engine.apply(project)
    assert not kinds(engine, project)


def test_an_engine_that_is_not_there(compose_path: Path, tmp_path: Path) -> None:
    gone = ComposeEngine(LocalShell(f"unix://{tmp_path}/none.sock", path=[compose_path]))
    for ask in (lambda: gone.found("lctest-none"), lambda: gone.destroy("lctest-none"), gone.projects):
        with pytest.raises(EngineUnreachable) as caught:
            ask()
        assert "systemctl start docker" in caught.value.hint


# -- secrets and volumes -----------------------------------------------------------------------------------------------


def test_destroy_keeps_volumes_unless_told(engine: ComposeEngine, make: Make) -> None:
    project = make({"web": {**ALONE, "volumes": ["kept:/kept"]}}, volumes={"kept": {}})
    engine.apply(project)
    volume = f"{project.name}_kept"
    assert engine.found(project.name).volumes == (volume,)
    engine.destroy(project.name)
    left = engine.found(project.name)
    assert (dict(left.services), left.networks, left.volumes) == ({}, (), (volume,))
    engine.destroy(project.name, volumes=True)
    assert project.name not in engine.projects()
    engine.destroy(project.name)


def test_who_may_read_a_secret_is_as_the_file_says(engine: ComposeEngine, make: Make) -> None:
    web = f"image: '{IMAGE}', command: [sleep, '900'], network_mode: none, secrets: [{{source: pw, mode: 0440}}]"
    project = replace(make({}, {"PW": PASSWORD}), text=f"services: {{web: {{{web}}}}}\nsecrets: {{pw: {{environment: PW}}}}\n")
    engine.apply(project)
    assert engine.execute(project.name, "web", ["sh", "-c", "stat -c %a /run/secrets/pw"]) == "440\n"


def test_what_a_command_says_of_a_secret_when_it_fails_is_masked(engine: ComposeEngine, make: Make) -> None:
    project = make({"web": ALONE})
    engine.apply(project)
    env = {"PW": Secret("first-line\nsecond-line\n")}
    with pytest.raises(ShellError, match=r"refused: \*\*\* \*\*\*") as caught:
        engine.execute(project.name, "web", ["sh", "-c", "echo refused: $PW >&2; exit 4"], env=env)
    assert caught.value.code == 4


def test_commands_and_logs(engine: ComposeEngine, make: Make) -> None:
    project = make({"web": {**ALONE, "command": ["sh", "-c", "echo out; echo err >&2; exec sleep 900"]}})
    engine.apply(project)
    script = 'cat; echo "[$PW]"'
    said = engine.execute(project.name, "web", ["sh", "-c", script], stdin="it's\n$HOME", env={"PW": Secret(PASSWORD)})
    assert said == f"it's\n$HOME[{PASSWORD}]\n"
    with pytest.raises(ShellError) as caught:
        engine.execute(project.name, "web", ["sh", "-c", "echo no >&2; exit 7"])
    assert (caught.value.code, caught.value.message) == (7, "no")
    assert sorted(engine.logs(project.name, "web").split()) == ["err", "out"]
    with pytest.raises(UserError, match="no service 'wep'") as unknown:
        engine.logs(project.name, "wep")
    assert "'web'" in unknown.value.hint
    with pytest.raises(UserError, match="is not there"):
        engine.logs("lctest-none")


# -- over SSH ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(compose_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd"), compose_path) as found:
        yield found


@pytest.fixture
def shell(server: Sshd) -> Iterator[SshShell]:
    shell = SshShell(server.destination, key=server.key, known_hosts=server.known_hosts, host_alias="docker")
    yield shell
    shell.close()


def clients(server: Sshd) -> dict[int, str]:
    """The ssh processes that go to the server."""
    port = server.destination.rpartition(":")[2]
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0].endswith("ssh") and port in words:
            found[int(file.parent.name)] = " ".join(words)
    return found


def cut(server: Sshd) -> None:
    """Kills the connection that the commands share."""
    for pid, words in clients(server).items():
        if "ControlMaster=yes" in words:
            os.kill(pid, 9)


def test_a_guest_is_as_this_machine_and_nothing_is_left_of_the_connection(shell: SshShell, server: Sshd, make: Make) -> None:
    remote = ComposeEngine(shell)
    project = make({"web": {**ALONE, "environment": {"PW": "${PW}"}}}, {"PW": PASSWORD})
    with watched() as seen:
        remote.apply(project)
        assert not kinds(remote, project)
        assert f"PW={PASSWORD}" in remote.execute(project.name, "web", ["env"], env={"OTHER": Secret("hidden-word")})
        with ThreadPoolExecutor(12) as pool:
            states = list(pool.map(lambda _n: remote.found(project.name), range(12)))
        assert len(set(map(repr, states))) == 1
    assert len(clients(server)) == 1
    line = server.key.reveal().splitlines()[2]
    assert any(b"docker" in words for words in seen)
    assert not [words for words in seen for secret in (line, PASSWORD, "hidden-word") if secret.encode() in words]
    ours = shell._folder
    remote.close()
    assert clients(server) == {}
    assert ours is not None
    assert not ours.exists()


@pytest.mark.parametrize("how", ["stopped", "not in time"])
def test_what_is_ended_here_ends_in_the_guest_too(shell: SshShell, tmp_path: Path, how: str) -> None:
    stop, pid = threading.Event(), tmp_path / "pid"
    script = f"trap 'echo told > {tmp_path}/told; exit 1' INT\nsleep 300 & echo $! > {pid}; wait"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shell.run, script, stop=stop, timeout_s=60 if how == "stopped" else 5)
        until(lambda: pid.exists() and pid.read_text().strip())
        if how == "stopped":
            stop.set()
        with pytest.raises(Interrupted if how == "stopped" else ShellError):
            running.result()
    assert (tmp_path / "told").exists()
    # Gone, or dead and not yet reaped by whoever took it over.
    line = Path("/proc") / pid.read_text().strip() / "cmdline"
    assert not line.exists() or not line.read_bytes()


def test_a_connection_that_was_lost_is_opened_again(shell: SshShell, server: Sshd) -> None:
    assert shell.run("echo one") == "one\n"
    before = list(clients(server))
    os.kill(before[0], 9)
    assert shell.run("echo two") == "two\n"
    assert list(clients(server)) != before

    timer = threading.Timer(0.5, cut, (server,))
    timer.start()
    assert shell.run("sleep 1; echo again") == "again\n"
    timer.join()
    with pytest.raises(ShellError) as caught:
        shell.run("echo why >&2; exit 255")
    assert (caught.value.code, caught.value.message) == (255, "why")
    shell.close()
    assert shell.run("echo three") == "three\n"


def test_a_connection_that_is_lost_is_so_although_its_process_is_seen_to_run(
    shell: SshShell, server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel closes what a killed process had open before it tells its parent of the end."""
    shell.run("echo one")
    assert shell._master is not None
    monkeypatch.setattr(shell._master, "poll", lambda: None)
    cut(server)
    assert shell.run("echo two") == "two\n"


def test_all_that_shared_a_lost_connection_go_on(shell: SshShell, server: Sshd, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        scripts = [f"touch {tmp_path}/{n}; until test -e {tmp_path}/go; do sleep 0.1; done; echo {n}" for n in range(4)]
        running = [pool.submit(shell.run, script) for script in scripts]
        until(lambda: {file.name for file in tmp_path.iterdir()} >= set("0123"))
        cut(server)
        (tmp_path / "go").touch()
        assert [one.result() for one in running] == ["0\n", "1\n", "2\n", "3\n"]
    assert len(clients(server)) == 1


def test_what_must_not_be_done_twice_is_not_when_the_connection_is_lost(shell: SshShell, server: Sshd, make: Make) -> None:
    remote = ComposeEngine(shell)
    project = make({"web": ALONE})
    remote.apply(project)
    command = ["sh", "-c", "echo x >> /tmp/done; until test -e /tmp/cut$0; do sleep 0.1; done; cat /tmp/done"]
    [container] = containers(project.name)

    def lose(runs: int) -> None:
        """Kills the connection once the command has begun for the `runs`th time, and then lets it end."""
        until(lambda: docker("exec", container, "cat", "/tmp/done", check=False).split() == ["x"] * runs)
        cut(server)
        docker("exec", container, "touch", f"/tmp/cut{runs}")

    for repeat, runs in ((False, 1), (True, 2)):
        cutting = threading.Thread(target=lose, args=(runs,))
        cutting.start()
        if repeat:
            assert remote.execute(project.name, "web", [*command, str(runs)], repeat=True) == "x\nx\nx\n"
        else:
            with pytest.raises(EngineUnreachable, match="whether that did its work is not known"):
                remote.execute(project.name, "web", [*command, str(runs)])
        cutting.join()
    assert remote.execute(project.name, "web", ["cat", "/tmp/done"]) == "x\nx\nx\n"


def test_a_host_or_a_key_that_is_not_known(server: Sshd, tmp_path: Path) -> None:
    other = tmp_path / "known"
    other.write_text(f"docker {' '.join(create_ssh_key('x').public.split()[:2])}\n")
    wrong = SshShell(server.destination, key=server.key, known_hosts=other, host_alias="docker")
    with pytest.raises(EngineUnreachable, match="host key is not the one"):
        wrong.run("echo never")
    refused = SshShell(server.destination, key=create_ssh_key("x").private, known_hosts=server.known_hosts, host_alias="docker")
    with pytest.raises(EngineUnreachable, match="refuses labctl's SSH key"):
        refused.run("echo never")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = SshShell(f"ssh://ops@127.0.0.1:{closed.getsockname()[1]}", key=server.key, known_hosts=other)
        with pytest.raises(EngineUnreachable, match="does not answer"):
            nobody.run("echo never")
    assert clients(server) == {}
