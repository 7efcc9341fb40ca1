"""labctl's ssh command line with the real OpenSSH client, against a server that is not OpenSSH."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from labctl.adapters.compose.terminal import key_file
from labctl.adapters.pki import SshKey, create_ssh_key
from labctl.engine.ssh import FAILED, ssh_command
from labctl.model.knownhosts import HostKey, with_key
from tests.needs import needed

pytestmark = pytest.mark.integration
ADDRESS = "127.86.89.22"


@pytest.fixture(scope="session")
def program() -> str:
    return needed("ssh", "openssh-client")


@dataclass
class Server:
    """A guest that runs nothing, and tells what it was asked to run."""

    port: int
    host_key: str
    commands: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def own() -> SshKey:
    return create_ssh_key("labctl@test")


@pytest.fixture(scope="module")
def server(own: SshKey) -> Iterator[Server]:
    loop = asyncio.new_event_loop()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    found = Server(0, " ".join(host_key.export_public_key().decode().split()[:2]))

    async def answer(process: asyncssh.SSHServerProcess[str]) -> None:
        found.commands.append(process.command or "")
        process.stdout.write(f"{process.get_extra_info('username')}\n")
        process.exit(7)

    async def serve() -> asyncssh.SSHAcceptor:
        keys = asyncssh.import_authorized_keys(own.public)
        return await asyncssh.listen(ADDRESS, 0, server_host_keys=[host_key], authorized_client_keys=keys, process_factory=answer)

    acceptor = loop.run_until_complete(serve())
    found.port = acceptor.get_port()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield found
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


@pytest.fixture
def known_hosts(tmp_path: Path, server: Server) -> Path:
    folder = tmp_path / "a folder with % and blanks"
    folder.mkdir()
    file = folder / "known_hosts"
    file.write_text(with_key("", HostKey(("docker", ADDRESS), server.host_key, "i-1")))
    return file


def run(program: str, key: SshKey, known_hosts: Path, server: Server, *command: str) -> subprocess.CompletedProcess[str]:
    with key_file(key.private) as file:
        line = ssh_command(program, file, known_hosts, "docker", ADDRESS, command)
        assert key.private.reveal() not in " ".join(line)
        # The lab's guests listen on port 22, which is not free here.
        with_port = [line[0], "-p", str(server.port), *line[1:]]
        done = subprocess.run(with_port, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert not Path(file).exists()
    return done


def test_the_exit_code_is_the_commands_own_and_words_stay_words(
    program: str, own: SshKey, server: Server, known_hosts: Path
) -> None:
    done = run(program, own, known_hosts, server, "echo", "two words", "$HOME")
    assert (done.returncode, done.stdout, done.stderr) == (7, "ops\n", "")
    assert server.commands[-1] == "echo 'two words' '$HOME'"
    run(program, own, known_hosts, server, "df -h | tail -1")
    assert server.commands[-1] == "df -h | tail -1"
    run(program, own, known_hosts, server, "-v")
    assert server.commands[-1] == "-v"


def test_a_host_with_another_key_is_not_talked_to(program: str, own: SshKey, server: Server, known_hosts: Path) -> None:
    before = len(server.commands)
    other = " ".join(create_ssh_key("x").public.split()[:2])
    known_hosts.write_text(with_key("", HostKey(("docker",), other)))
    done = run(program, own, known_hosts, server, "id")
    assert done.returncode == FAILED
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr
    known_hosts.write_text("")
    done = run(program, own, known_hosts, server, "id")
    assert done.returncode == FAILED
    assert "Host key verification failed" in done.stderr
    assert len(server.commands) == before


def test_a_key_that_the_guest_does_not_know_is_refused_and_none_of_the_users_is_tried(
    program: str, server: Server, known_hosts: Path
) -> None:
    done = run(program, create_ssh_key("x"), known_hosts, server, "id")
    assert done.returncode == FAILED
    assert "Permission denied" in done.stderr
