"""labctl's own provider under the real terraform: Compose projects on the real Docker engine, secrets from a real OpenBao."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.pki import create_ssh_key
from labctl.adapters.terraform import (
    PROGRAM_VARIABLE,
    REATTACH_VARIABLE,
    RunningProvider,
    ensure_launcher,
    own_program,
    write_cli_config,
    write_lock_file,
)
from labctl.adapters.vault import Vault
from labctl.model.catalogue import MOUNT
from labctl.model.ownprovider import OWN_PROVIDER, OWN_PROVIDER_VERSION
from labctl.sandbox.choice import look
from tests.composeplugin import base_image, compose_folder, engine_client
from tests.dockerregistry import registry
from tests.integration.vault.conftest import WORKER, Server
from tests.needs import lacking, needed

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("compose")]

PREFIX = f"lcprov{os.getpid()}"
CANARY = 'canary-7be04a\'s "value"'
ROTATED = "canary-7be04b-rotated"

WEB = """\
services:
  web:
    image: IMAGE
    entrypoint: [python3, -m, http.server, "80"]
    stop_grace_period: 0s
    environment: {V: one}
    healthcheck: {test: [CMD, curl, -sf, "http://127.0.0.1/"], interval: 1s}
    secrets: [password]
    networks: [front]
    volumes: ["data:/data"]
  idle:
    image: IMAGE
    entrypoint: [sleep, "999"]
    stop_grace_period: 0s
networks: {front: {}}
volumes: {data: {}}
secrets: {password: {environment: PASSWORD}}
"""

IDLE = """\
services:
  idle:
    image: IMAGE
    entrypoint: [sleep, "999"]
    stop_grace_period: 0s
    environment: {V: one}
    volumes: ["data:/data"]
volumes: {data: {}}
"""


class Machine:
    """The engine of this machine with the guests' Compose, a Vault, and a mirror with the launcher."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        programs = folder / "programs"
        programs.mkdir()
        (programs / "docker").symlink_to(engine_client())
        self.path = os.pathsep.join([str(programs), str(compose_folder()), os.environ["PATH"]])
        self.terraform = needed("terraform", "terraform")
        mirror = folder / "mirror"
        self.entry = ensure_launcher(mirror)
        self.cli_config = folder / "terraformrc"
        write_cli_config(self.cli_config, mirror)
        self.image = f"{PREFIX}/base:1"
        self.docker("tag", base_image(), self.image)
        self.vault = self._opened()

    def docker(self, *words: str) -> str:
        done = subprocess.run([engine_client(), *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def access(self) -> dict[str, str]:
        """What the provider reads from its environment."""
        vault = {"VAULT_ADDR": self.server.url, "VAULT_TOKEN": self.token.reveal(), "VAULT_CACERT": str(self.server.ca_file)}
        return {"PATH": self.path, **vault}

    def write(self, path: str, **fields: str) -> None:
        self.vault.client.secrets.kv.v2.create_or_update_secret(path, fields, mount_point=MOUNT)

    def unseal(self) -> None:
        self.server.vault().unseal(self.keys)

    def _opened(self) -> Vault:
        made = self.server.vault().initialise()
        self.keys, self.token = made.unseal_keys, made.root_token
        self.unseal()
        vault = self.server.vault(self.token)
        vault.client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
        return vault


class Stack:
    """A folder with one project."""

    def __init__(self, machine: Machine, folder: Path, name: str) -> None:
        self.machine, self.folder, self.name = machine, folder, f"{PREFIX}-{name}"
        self.environment: dict[str, str] = {}
        self.provider: dict[str, Any] = {}
        folder.mkdir()

    def write(self, text: str, images: dict[str, Any] | None = None, **settings: Any) -> None:
        settings = {"name": self.name, "compose": text.replace("IMAGE", self.machine.image), "wait_timeout": 30, **settings}
        self.settings = settings
        document = {
            "terraform": {"required_providers": {"labctl": {"source": OWN_PROVIDER, "version": OWN_PROVIDER_VERSION}}},
            "provider": {"labctl": self.provider},
            "resource": {"labctl_compose_project": {"this": settings}, **({"labctl_image": images} if images else {})},
        }
        (self.folder / "main.tf.json").write_text(json.dumps(document))
        if not (self.folder / ".terraform").is_dir():
            write_lock_file(self.folder, [self.machine.entry.lock_entry()])
            self.done("init")

    def begin(self, *words: str, **more: str) -> subprocess.Popen[str]:
        environment = {
            "HOME": str(self.machine.folder),
            "TF_CLI_CONFIG_FILE": str(self.machine.cli_config),
            "CHECKPOINT_DISABLE": "1",
            PROGRAM_VARIABLE: own_program(),
            **self.machine.access(),
            **self.environment,
            **more,
        }
        return subprocess.Popen(
            [self.machine.terraform, *words, "-no-color"],
            cwd=self.folder,
            env={name: value for name, value in environment.items() if value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **more: str) -> tuple[int, str]:
        process = self.begin(*words, **more)
        said, _ = process.communicate(timeout=180)
        return process.returncode, said

    def done(self, *words: str, **more: str) -> str:
        code, said = self.run(*words, **more)
        assert code == 0, said
        return said

    def refused(self, *words: str, **more: str) -> str:
        code, said = self.run(*words, **more)
        assert code == 1, said
        # Terraform frames and wraps what a provider says.
        return " ".join(said.replace("│", " ").replace("╷", " ").replace("╵", " ").split())

    def apply(self, **more: str) -> str:
        return self.done("apply", "-auto-approve", **more)

    def plan(self, code: int = 2, **more: str) -> str:
        found, said = self.run("plan", "-detailed-exitcode", **more)
        assert found == code, said
        return said

    def settled(self) -> None:
        assert "No changes" in self.plan(0)

    def state(self, kind: str = "labctl_compose_project") -> dict[str, Any] | None:
        file = self.folder / "terraform.tfstate"
        resources = json.loads(file.read_text())["resources"] if file.is_file() else []
        return next((one["instances"][0]["attributes"] for one in resources if one["type"] == kind), None)

    def containers(self, *more: str) -> list[str]:
        return self._labelled("ps", "-aq", *more)

    def volumes(self) -> list[str]:
        return self._labelled("volume", "ls", "-q")

    def networks(self) -> list[str]:
        return self._labelled("network", "ls", "-q")

    def _labelled(self, *words: str) -> list[str]:
        return self.machine.docker(*words, "--filter", f"label=com.docker.compose.project={self.name}").split()

    def clear(self) -> None:
        for kind, left in (("container", self.containers()), ("network", self.networks()), ("volume", self.volumes())):
            if left:
                self.machine.docker(kind, "rm", "-f" if kind != "network" else "--", *left)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if not look().engine:
        lacking("no Docker engine answers: start `dockerd`")
    folder = tmp_path_factory.mktemp("machine")
    server = Server(folder / "vault", address=f"127.86.88.{60 + WORKER}")
    server.prepare()
    server.start()
    try:
        made = Machine(folder, server)
        yield made
        made.docker("rmi", made.image)
    finally:
        server.stop()


@pytest.fixture
def stack(machine: Machine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stack]:
    machine.write("labctl/content", key="key-of-the-hashes")
    machine.write("services/web", password=CANARY)
    made = Stack(machine, tmp_path / "stack", request.node.name.removeprefix("test_").replace("[", "-").strip("]")[:30])
    yield made
    made.clear()


SECRETS = {"PASSWORD": "services/web#password"}


def test_created_seen_as_done_changed_in_place_and_destroyed_without_its_volume(stack: Stack) -> None:
    stack.write(WEB, secrets=SECRETS)
    planned = stack.plan()
    assert "will be created" in planned
    # What the project would be is known before it is there.
    assert 'state        = "running"' in planned
    stack.apply()
    stack.settled()
    state = stack.state()
    assert state is not None
    assert {name: (one["state"], one["health"]) for name, one in state["services"].items()} == {
        "web": ("running", "healthy"),
        "idle": ("running", "none"),
    }
    assert state["id"] == stack.name

    web = stack.containers("--filter", "label=com.docker.compose.service=web")
    idle = stack.containers("--filter", "label=com.docker.compose.service=idle")
    stack.write(WEB.replace("V: one", "V: two"), secrets=SECRETS)
    planned = stack.plan()
    assert "will be updated in-place" in planned
    assert [line.split() for line in planned.splitlines() if "environment:" in line and line.strip()[0] in "+-"] == [
        ["-", "environment:", "{V:", "one}"],
        ["+", "environment:", "{V:", "two}"],
    ]
    stack.apply()
    stack.settled()
    assert stack.containers("--filter", "label=com.docker.compose.service=web") != web
    assert stack.containers("--filter", "label=com.docker.compose.service=idle") == idle

    volumes = stack.volumes()
    stack.done("destroy", "-auto-approve")
    assert (stack.containers(), stack.networks(), stack.volumes()) == ([], [], volumes)
    assert stack.state() is None


def test_destroy_removes_volumes_where_that_was_asked_for(stack: Stack) -> None:
    stack.write(IDLE)
    stack.apply()
    assert len(stack.volumes()) == 1
    stack.write(IDLE, remove_volumes=True)
    stack.apply()
    stack.done("destroy", "-auto-approve")
    assert (stack.containers(), stack.volumes()) == ([], [])


def _kill(stack: Stack) -> None:
    stack.machine.docker("kill", f"{stack.name}-idle-1")


def _remove(stack: Stack) -> None:
    stack.machine.docker("rm", "-f", f"{stack.name}-idle-1")


def _disconnect(stack: Stack) -> None:
    stack.machine.docker("network", "disconnect", f"{stack.name}_front", f"{stack.name}-web-1")


def _lose_the_network(stack: Stack) -> None:
    stack.machine.docker("rm", "-f", f"{stack.name}-web-1")
    stack.machine.docker("network", "rm", f"{stack.name}_front")


def _scale(stack: Stack) -> None:
    file = stack.folder / "compose.yaml"
    file.write_text(stack.settings["compose"])
    command = ["docker-compose", "-p", stack.name, "--project-directory", "/", "-f", str(file), "up", "-d", "--no-recreate"]
    environment = {**os.environ, "PATH": stack.machine.path, "PASSWORD": CANARY}
    subprocess.run([*command, "--scale", "idle=2"], env=environment, check=True, capture_output=True)


def _retag(stack: Stack) -> None:
    made = stack.machine.docker("commit", f"{stack.name}-idle-1", stack.machine.image)
    assert made


MEDDLING: list[tuple[Callable[[Stack], None], str]] = [
    (_kill, '"exited" -> "running"'),
    (_remove, '+ "idle"'),
    (_disconnect, f'+ "{PREFIX}-'),
    (_lose_the_network, '+ "web"'),
    (_scale, "2 -> 1"),
    (_retag, "~ image_id"),
]


def test_what_was_changed_outside_is_an_update_in_place(stack: Stack) -> None:
    stack.write(WEB, secrets=SECRETS)
    running = RunningProvider(stack.machine.access())
    stack.environment = {REATTACH_VARIABLE: running.reattach}
    try:
        stack.apply()
        for meddle, shown in MEDDLING:
            meddle(stack)
            planned = stack.plan()
            assert "will be updated in-place" in planned, meddle
            assert shown in planned, planned
            stack.apply()
            stack.settled()
    finally:
        running.close()
        stack.machine.docker("tag", base_image(), stack.machine.image)


def test_containers_that_are_gone_are_created_again_on_the_same_volume(stack: Stack) -> None:
    stack.write(IDLE)
    stack.apply()
    stack.machine.docker("exec", f"{stack.name}-idle-1", "touch", "/data/kept")
    stack.machine.docker("rm", "-f", *stack.containers())
    stack.machine.docker("network", "rm", *stack.networks())
    assert "will be created" in stack.plan()
    stack.apply()
    stack.settled()
    assert stack.machine.docker("exec", f"{stack.name}-idle-1", "ls", "/data") == "kept"


def test_a_network_and_a_service_that_the_file_drops_are_dropped(stack: Stack) -> None:
    stack.write(WEB, secrets=SECRETS)
    stack.apply()
    assert len(stack.networks()) == 2
    alone = WEB.replace("    networks: [front]\n", "").replace("networks: {front: {}}\n", "").partition("  idle:")
    stack.write(alone[0] + "volumes: {data: {}}\nsecrets: {password: {environment: PASSWORD}}\n", secrets=SECRETS)
    stack.apply()
    stack.settled()
    assert len(stack.containers()) == 1


def test_a_failed_create_shows_the_log_leaves_no_state_and_goes_on_next_time(stack: Stack) -> None:
    looping = IDLE.replace('[sleep, "999"]', '[sh, -c, "echo no disk today; exit 3"]').replace(
        "    env", "    restart: always\n    env"
    )
    stack.write(looping)
    said = stack.refused("apply", "-auto-approve")
    assert "no disk today" in said
    assert "idle" in said
    assert 'compose"' in said or '"compose"' in said or "compose =" in said
    assert stack.state() is None
    assert len(stack.containers()) == 1
    volumes = stack.volumes()

    stack.write(IDLE)
    assert "will be created" in stack.plan()
    said = stack.apply()
    assert "1 added, 0 changed, 0 destroyed" in said
    assert stack.volumes() == volumes
    stack.settled()

    before = stack.state()
    stack.write(looping)
    assert "no disk today" in stack.refused("apply", "-auto-approve")
    assert stack.state() is not None
    assert before is not None
    assert stack.state()["compose"] == before["compose"]  # type: ignore[index]
    assert "will be updated in-place" in stack.plan()
    stack.write(IDLE)
    stack.apply()
    stack.settled()


SLOW = """\
services:
  idle:
    image: IMAGE
    entrypoint: [sleep, "999"]
    stop_grace_period: 0s
    healthcheck: {test: [CMD, test, -e, /data/go], interval: 1s, retries: 99}
    volumes: ["data:/data"]
volumes: {data: {}}
"""
# Compose itself waits here, where it is labctl that waits above.
AFTER = SLOW.replace(
    "volumes: {data",
    '  after:\n    image: IMAGE\n    entrypoint: [sleep, "999"]\n    stop_grace_period: 0s\n'
    "    depends_on: {idle: {condition: service_healthy}}\nvolumes: {data",
)


def _until(holds: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(("attached", "text"), [(False, SLOW), (True, SLOW), (False, AFTER)], ids=["own", "attached", "compose"])
def test_an_interrupted_create_leaves_no_state_and_goes_on_next_time(stack: Stack, attached: bool, text: str) -> None:
    stack.write(text, wait_timeout=120)
    running = RunningProvider(stack.machine.access()) if attached else None
    more = {REATTACH_VARIABLE: running.reattach} if running else {}
    try:
        process = stack.begin("apply", "-auto-approve", **more)
        _until(lambda: stack.containers("--filter", "status=running"))
        # As a terminal does it: to every process of the group.
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 1, said
        assert "was interrupted" in said
        assert time.monotonic() - began < 8
        assert stack.state() is None
        left = stack.containers("--filter", "label=com.docker.compose.service=idle")
        assert len(left) == 1

        stack.machine.docker("exec", f"{stack.name}-idle-1", "touch", "/data/go")
        said = stack.apply(**more)
        assert "1 added, 0 changed, 0 destroyed" in said
        assert stack.containers("--filter", "label=com.docker.compose.service=idle") == left
        stack.settled()
    finally:
        if running:
            running.close()


def test_a_rotated_secret_is_planned_and_its_value_is_nowhere(stack: Stack) -> None:
    stack.write(WEB, secrets=SECRETS)
    log = stack.folder.parent / "trace.log"
    traced = {"TF_LOG": "trace", "TF_LOG_PATH": str(log)}
    stack.done("plan", "-out=plan", **traced)
    stack.done("apply", "plan", **traced)
    stack.settled()
    web = stack.containers("--filter", "label=com.docker.compose.service=web")
    idle = stack.containers("--filter", "label=com.docker.compose.service=idle")
    assert stack.machine.docker("exec", f"{stack.name}-web-1", "cat", "/run/secrets/password") == CANARY

    stack.machine.write("services/web", password=ROTATED)
    planned = stack.plan(**traced)
    assert "~ content_hash" in planned
    assert "will be updated in-place" in planned
    stack.apply(**traced)
    stack.settled()
    assert stack.machine.docker("exec", f"{stack.name}-web-1", "cat", "/run/secrets/password") == ROTATED
    assert stack.containers("--filter", "label=com.docker.compose.service=web") != web
    assert stack.containers("--filter", "label=com.docker.compose.service=idle") == idle

    files = [path for path in stack.folder.parent.rglob("*") if path.is_file() and ".terraform" not in path.parts]
    assert {"plan", "terraform.tfstate", "trace.log"} <= {path.name for path in files}
    for secret in ("canary-7be04", "key-of-the-hashes", stack.machine.token.reveal()):
        assert not [path for path in files if secret.encode() in path.read_bytes()]
    # The plan is a zip file: what is in it is compressed.
    shown = stack.done("show", "-json", "plan")
    assert "canary-7be04" not in shown
    assert "canary-7be04" not in stack.machine.docker("inspect", *stack.containers())


def test_imported_by_its_name_it_is_taken_over_in_place(stack: Stack) -> None:
    stack.write(IDLE)
    stack.apply()
    before = stack.containers()
    (stack.folder / "terraform.tfstate").unlink()
    stack.done("import", "labctl_compose_project.this", stack.name)
    assert "will be updated in-place" in stack.plan()
    stack.apply()
    stack.settled()
    assert stack.containers() == before
    (stack.folder / "terraform.tfstate").unlink()
    said = stack.refused("import", "labctl_compose_project.this", f"{stack.name}-not-there")
    assert f"{stack.name}-not-there" in said


def test_an_engine_out_of_reach_stops_a_refresh_but_not_the_plan_of_a_create(stack: Stack) -> None:
    stack.provider = {"docker_host": f"unix://{stack.folder}/no.sock"}
    stack.write(IDLE)
    assert "will be created" in stack.plan()
    said = stack.refused("apply", "-auto-approve")
    assert "systemctl" in said
    assert stack.state() is None

    stack.provider = {"docker_host": "ssh://ops@127.0.0.1:9"}
    stack.write(IDLE)
    planned = stack.plan()
    assert "Warning: what the project would be is not known yet" in planned
    assert "LABCTL_SSH_PRIVATE_KEY" in planned
    key = create_ssh_key("labctl").private.reveal()
    stack.environment = {"LABCTL_SSH_PRIVATE_KEY": key, "LABCTL_SSH_KNOWN_HOSTS": str(stack.folder / "no-known-hosts")}
    planned = stack.plan()
    assert "its SSH host key is not the one that is known" in planned
    assert "services     = (known after apply)" in planned
    stack.environment = {}

    stack.provider = {}
    stack.write(IDLE)
    stack.apply()
    stack.provider = {"docker_host": f"unix://{stack.folder}/no.sock"}
    stack.write(IDLE)
    assert "systemctl" in stack.refused("plan")
    assert stack.state() is not None


@pytest.mark.parametrize(
    ("reference", "environment", "said"),
    [
        ("services/none#password", {}, "there is no secret 'services/none'"),
        ("services/web#passwort", {}, "Did you mean 'password'?"),
        ("services/web", {}, "path#field"),
        ("services/web#password", {"VAULT_ADDR": ""}, "VAULT_ADDR"),
        ("services/web#password", {"VAULT_TOKEN": "hvs.not-one-of-this-vault"}, "permission denied"),
    ],
)
def test_a_secret_that_cannot_be_read_is_said_where_it_is_asked_for(
    stack: Stack, reference: str, environment: dict[str, str], said: str
) -> None:
    stack.name = f"{PREFIX}-s{abs(hash((reference, *environment))) % 10_000}"
    stack.environment = environment
    stack.write(WEB, secrets={"PASSWORD": reference})
    found = stack.refused("apply", "-auto-approve")
    assert said in found, found
    assert '"secrets"' in found, found
    assert stack.containers() == []
    if environment:
        stack.environment = {}
        stack.write(WEB, secrets=SECRETS)
        stack.apply()
        stack.environment = environment
        found = stack.refused("plan")
        assert said in found, found
        # It needs no secret to be taken down, only to be compared.
        stack.done("destroy", "-auto-approve", "-refresh=false")
        assert stack.containers() == []


def test_a_sealed_vault_is_said_with_the_way_to_open_it(stack: Stack) -> None:
    stack.write(WEB, secrets=SECRETS)
    stack.apply()
    stack.machine.vault.client.sys.seal()
    try:
        found = stack.refused("plan")
        assert "the Vault is sealed" in found
        assert "labctl vault unseal" in found
    finally:
        stack.machine.unseal()
    stack.settled()


def test_a_file_that_compose_refuses_and_a_bad_name_are_said_at_their_attribute(stack: Stack) -> None:
    stack.write(IDLE.replace("entrypoint", "entripoint"))
    said = stack.refused("plan")
    assert "entripoint" in said
    stack.write("services: [\n")
    assert "line" in stack.refused("plan")
    stack.write(IDLE, name="Not A Name")
    said = stack.refused("plan")
    assert "is not a name for a Compose project" in said


def test_a_project_on_the_machines_own_network_has_none_that_could_be_missing(stack: Stack) -> None:
    stack.write(IDLE.replace("    environment", "    network_mode: host\n    environment"))
    stack.apply()
    stack.settled()
    assert stack.networks() == []


def test_an_image_that_is_not_there_is_known_after_apply_and_said_when_it_cannot_be_fetched(stack: Stack) -> None:
    stack.write(IDLE.replace("IMAGE", "127.0.0.1:9/lab/none:1"))
    assert "(known after apply)" in stack.plan()
    said = stack.refused("apply", "-auto-approve")
    assert "cannot be fetched" in said
    assert stack.state() is None


def test_values_that_are_not_known_yet_leave_the_project_unknown(stack: Stack) -> None:
    stack.write(IDLE, redeploy="${terraform_data.other.id}")
    document = json.loads((stack.folder / "main.tf.json").read_text())
    document["resource"]["terraform_data"] = {"other": {"input": "x"}}
    # Unknown, but known not to be null and how it begins: what newer Terraforms send as a refined unknown.
    document["resource"]["labctl_compose_project"]["this"]["redeploy"] = "id-${terraform_data.other.id}"
    (stack.folder / "main.tf.json").write_text(json.dumps(document))
    stack.done("init")
    planned = stack.plan()
    assert "+ services     = (known after apply)" in planned
    stack.apply()
    stack.settled()


def test_a_provider_that_is_attached_to_ends_with_labctl(stack: Stack) -> None:
    stack.write(IDLE)
    running = RunningProvider(stack.machine.access())
    try:
        attached = {REATTACH_VARIABLE: running.reattach, PROGRAM_VARIABLE: "/nowhere"}
        stack.done("apply", "-auto-approve", **attached)
        assert "No changes" in stack.plan(0, **attached)
        pid = json.loads(running.reattach)[OWN_PROVIDER]["Pid"]
        socket = Path(json.loads(running.reattach)[OWN_PROVIDER]["Addr"]["String"])
        assert socket.exists()
        # What it starts must be able to be interrupted, and inherits what it ignores.
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
        assert not int(ignored, 16) >> (signal.SIGINT - 1) & 1
        os.kill(pid, signal.SIGINT)
        assert "No changes" in stack.plan(0, **attached)
    finally:
        running.close()
    assert not Path(f"/proc/{pid}").exists()
    assert not socket.parent.exists()


def test_a_provider_ends_when_labctl_is_killed(machine: Machine) -> None:
    script = (
        "import json, os, sys, time\n"
        "from labctl.adapters.terraform import RunningProvider\n"
        "print(RunningProvider({}).reattach, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = json.loads(parent.stdout.readline())[OWN_PROVIDER]["Pid"]
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    _until(lambda: _ended(pid), 10)


def _ended(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_a_change_is_finished_and_stored_when_labctl_is_killed(stack: Stack) -> None:
    stack.write(SLOW, wait_timeout=60)
    document = json.loads((stack.folder / "main.tf.json").read_text())
    # One project after the other: the second one is begun when labctl is long gone.
    second = {**stack.settings, "name": f"{stack.name}-2", "compose": IDLE.replace("IMAGE", stack.machine.image)}
    document["resource"]["labctl_compose_project"]["next"] = {**second, "depends_on": ["labctl_compose_project.this"]}
    (stack.folder / "main.tf.json").write_text(json.dumps(document))
    script = (
        "import json, sys, time\n"
        "from labctl.adapters.terraform import RunningProvider\n"
        "print(RunningProvider(json.loads(sys.argv[1])).reattach, flush=True)\n"
        "time.sleep(60)\n"
    )
    access = json.dumps(stack.machine.access())
    with subprocess.Popen([sys.executable, "-c", script, access], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        reattach = parent.stdout.readline()
        terraform = stack.begin("apply", "-auto-approve", **{REATTACH_VARIABLE: reattach})
        _until(lambda: stack.containers("--filter", "status=running"))
        parent.kill()
    time.sleep(1)
    stack.machine.docker("exec", f"{stack.name}-idle-1", "touch", "/data/go")
    said, _ = terraform.communicate(timeout=60)
    assert terraform.returncode == 0, said
    assert "2 added" in said
    _until(lambda: _ended(json.loads(reattach)[OWN_PROVIDER]["Pid"]), 20)
    stack.settled()
    stack.done("destroy", "-auto-approve", "-target=labctl_compose_project.next")
    stack.machine.docker("volume", "rm", f"{stack.name}-2_data")


def test_the_launcher_is_the_same_everywhere(machine: Machine, tmp_path: Path) -> None:
    again = ensure_launcher(tmp_path)
    # Stacks' lock files have it: another one refuses them on every machine.
    assert again.h1 == machine.entry.h1 == "h1:SxcnQKVgMJVIe4hboqdvnvRcDI5WROnplkgKrkFSPvc="
    assert [path.name for path in again.path.iterdir()] == [f"terraform-provider-labctl_v{OWN_PROVIDER_VERSION}"]


def test_an_image_is_built_pushed_and_run_by_its_digest(stack: Stack, tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "part").mkdir(parents=True)
    (context / "Dockerfile").write_text(f"FROM {stack.machine.image}\nARG SAID\nCOPY part /part\nRUN echo $SAID >> /part/text\n")
    (context / "part" / "text").write_text("one\n")
    with registry(tmp_path / "registry") as address:
        name = f"{address}/{PREFIX}/app"
        image = {"name": name, "tag": "1", "context": str(context), "context_hash": "1", "build_args": {"SAID": "hello"}}
        text = IDLE.replace("image: IMAGE", "image: ${labctl_image.this.reference}")
        stack.write(text, images={"this": image})
        planned = stack.plan()
        assert "2 to add" in planned
        stack.apply()
        stack.settled()
        first = stack.state("labctl_image")
        assert first is not None
        assert first["reference"] == f"{name}@{first['digest']}"
        assert first["digest"].startswith("sha256:")
        show = ("exec", f"{stack.name}-idle-1", "cat", "/part/text")
        assert stack.machine.docker(*show).split() == ["one", "hello"]

        # Where the folder lies does not matter, what is in it does.
        moved = context.rename(tmp_path / "moved")
        stack.write(text, images={"this": image | {"context": str(moved)}})
        assert "context_hash" not in stack.plan()
        assert "1 changed" in stack.apply()
        stack.settled()
        assert (stack.state("labctl_image") or {})["digest"] == first["digest"]
        (moved / "part" / "text").write_text("two\n")
        image |= {"context": str(moved), "context_hash": "2"}
        stack.write(text, images={"this": image})
        assert "(known after apply)" in stack.plan()
        stack.apply()
        stack.settled()
        assert stack.machine.docker(*show).split() == ["two", "hello"]

        (moved / "Dockerfile").write_text("FROM nothing-of-this-name:1\nRUN exit 3\n")
        stack.write(text, images={"this": image | {"context_hash": "3"}})
        said = stack.refused("apply", "-auto-approve")
        assert "nothing-of-this-name" in said
        assert "2 to change" in stack.plan()
        assert stack.machine.docker(*show).split() == ["two", "hello"]
        stack.write(text, images={"this": image | {"context": str(tmp_path / "nowhere"), "context_hash": "3"}})
        assert "is not a folder" in stack.refused("apply", "-auto-approve")
        stack.write(text, images={"this": image})
        stack.settled()
        stack.done("destroy", "-auto-approve")
    for tag in stack.machine.docker("images", "-q", name).split():
        stack.machine.docker("rmi", "-f", tag)
