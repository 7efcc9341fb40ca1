"""Provider `labctl` as one running process, an OpenBao with a secret, and folders for the real Terraform."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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
from labctl.model.secret import Secret
from tests.dockercompose import IMAGE, PREFIX, create_image, docker
from tests.integration.vault.conftest import Server
from tests.ownprovider import IDLE, Stack, run_provider

CANARY = 'canary-7be04a\'s "value"'
KEY = "key-of-the-hashes"
MOVING = f"{PREFIX}-moving:1"
"""An image whose tag tests let point elsewhere."""

WEB = f"""\
services:
  web:
    image: {IMAGE}
    command: [sleep, "900"]
    stop_signal: SIGKILL
    environment: {{V: one}}
    secrets: [password]
    networks: [front]
    volumes: ["data:/data"]
  idle:
    image: {MOVING}
    command: [sleep, "900"]
    stop_signal: SIGKILL
networks: {{front: {{}}}}
volumes: {{data: {{}}}}
secrets: {{password: {{environment: PASSWORD}}}}
"""
SECRETS = {"PASSWORD": "services/web#password"}

NewStack = Callable[..., Stack]
Run = Callable[..., RunningProvider]


@dataclass
class OpenVault:
    """An OpenBao with a secret, and how to close and open it."""

    server: Server
    client: Vault
    token: Secret
    keys: tuple[Secret, ...]
    password: str = CANARY

    @property
    def environment(self) -> dict[str, str]:
        return {"VAULT_ADDR": self.server.url, "VAULT_TOKEN": self.token.reveal(), "VAULT_CACERT": str(self.server.ca_file)}

    def write(self, path: str, **fields: str) -> None:
        self.client.client.secrets.kv.v2.create_or_update_secret(path, fields, mount_point=MOUNT)

    def rotate(self, password: str) -> None:
        """Gives `services/web#password` another value."""
        self.password = password
        self.write("services/web", password=password)

    def seal(self) -> None:
        self.client.client.sys.seal()

    def unseal(self) -> None:
        self.client.unseal(self.keys)


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVault]:
    pid = os.getpid()
    server = Server(tmp_path_factory.mktemp("vault") / "server", address=f"127.87.{pid // 250 % 250}.{pid % 250 + 1}")
    server.prepare()
    server.start()
    try:
        made = server.vault().initialise()
        client = server.vault(made.root_token)
        client.unseal(made.unseal_keys)
        client.client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
        found = OpenVault(server, client, made.root_token, made.unseal_keys)
        found.write("labctl/content", key=KEY)
        found.rotate(CANARY)
        yield found
    finally:
        server.stop()


@pytest.fixture(scope="session")
def access(compose_path: Path, vault: OpenVault) -> dict[str, str]:
    """What the provider reads from its environment."""
    engine = {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}
    return {**engine, "PATH": f"{compose_path}{os.pathsep}{os.environ['PATH']}", **vault.environment}


@pytest.fixture(scope="session")
def running(access: dict[str, str]) -> Iterator[RunningProvider]:
    """The provider that stacks attach to."""
    found = run_provider(access)
    yield found
    found.close()


@pytest.fixture
def run(access: dict[str, str]) -> Iterator[Run]:
    """Runs a provider of a test's own, with more in its environment."""
    made: list[RunningProvider] = []

    def provider(**more: str) -> RunningProvider:
        made.append(run_provider({**access, **more}))
        return made[-1]

    yield provider
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def attached(running: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a Terraform needs that attaches to the running provider; it needs no `init`."""
    home = tmp_path_factory.mktemp("home")
    return {"HOME": str(home), "CHECKPOINT_DISABLE": "1", REATTACH_VARIABLE: running.reattach}


@pytest.fixture
def new_stack(attached: dict[str, str], tmp_path: Path) -> Iterator[NewStack]:
    """Makes stacks; what they leave on the engine goes."""
    made: list[Stack] = []

    def stack(name: str, **more: str) -> Stack:
        made.append(Stack(tmp_path / f"stack-{name}", name, {**attached, **more}))
        return made[-1]

    yield stack
    for one in made:
        one.clear()


@pytest.fixture
def stack(new_stack: NewStack) -> Stack:
    return new_stack("own")


@pytest.fixture(scope="session")
def up(attached: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    create_image(MOVING)
    stack = Stack(tmp_path_factory.mktemp("up") / "stack", "up", attached)
    yield stack
    stack.clear()
    docker("rmi", "-f", MOVING)


@pytest.fixture
def web(up: Stack) -> Stack:
    """A project that is up: one for all tests, which each leaves as it found it, or else the next one mends."""
    up.write(WEB, secrets=SECRETS)
    if not up.at_rest:
        up.apply()
        up.settled()
    return up


@pytest.fixture(scope="session")
def launcher(access: dict[str, str], attached: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A folder in which a Terraform that starts the provider itself, from a mirror and without a network, was initialised."""
    folder = tmp_path_factory.mktemp("launcher")
    entry = ensure_launcher(folder / "mirror")
    write_cli_config(folder / "terraformrc", folder / "mirror")
    own = {"TF_CLI_CONFIG_FILE": str(folder / "terraformrc"), PROGRAM_VARIABLE: own_program(), REATTACH_VARIABLE: ""}
    stack = Stack(folder / "stack", "launched", {**attached, **access, **own})
    stack.write(IDLE)
    write_lock_file(stack.folder, [entry.lock_entry()])
    nowhere = "http://127.0.0.1:9"
    stack.run("init", HTTP_PROXY=nowhere, HTTPS_PROXY=nowhere)
    return stack


@pytest.fixture
def launched(launcher: Stack, new_stack: NewStack) -> Stack:
    """A stack whose Terraform starts the provider itself."""
    stack = new_stack("launched", **launcher.environment)
    shutil.copytree(launcher.folder / ".terraform", stack.folder / ".terraform", symlinks=True)
    shutil.copy(launcher.folder / ".terraform.lock.hcl", stack.folder)
    return stack
