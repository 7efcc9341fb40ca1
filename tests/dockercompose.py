"""Docker Compose in the version that guests have, an image that needs no registry, and an sshd."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import io
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labctl.adapters.pki import SshKey, create_ssh_key
from labctl.model.secret import Secret
from tests.needs import lacking, needed

PREFIX = f"lctest{os.getpid()}"
"""Of images and projects: tests run in several processes, and several runs on one engine."""
IMAGE = f"{PREFIX}:1"
SETTLE_S, POLL_S = 0.15, 0.05
"""How long tests look at a container before they are sure of it; a lab takes its time."""
CACHE = Path(__file__).parents[1] / ".cache" / "labctl" / "compose"
PACKAGES = ("docker-compose", "busybox-static")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian trixie main\n"
APPLETS = ("sh", "sleep", "cat", "echo", "env", "stat", "test", "touch", "true", "false")


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} {command[-1]}: {(done.stderr or done.stdout).strip()[-300:]}")


def _fetch() -> None:
    """Debian trixie's packages, unpacked; apt works in folders of its own."""
    for folder in ("apt/etc", "apt/state/lists/partial", "apt/cache/archives/partial", "bin"):
        (CACHE / folder).mkdir(parents=True, exist_ok=True)
    (CACHE / "apt" / "etc" / "sources.list").write_text(SOURCE)
    apt = [
        "apt-get",
        *("-o", f"Dir::Etc::sourcelist={CACHE}/apt/etc/sources.list", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", f"Dir::State={CACHE}/apt/state", "-o", f"Dir::Cache={CACHE}/apt/cache"),
        *("-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"),
    ]
    _run(*apt, "update")
    _run(*apt, "download", *PACKAGES)
    for name in PACKAGES:
        _run("dpkg-deb", "--extract", max(CACHE.glob(f"{name}_*.deb")).name, "unpacked")
    plugin = CACHE / "unpacked" / "usr" / "libexec" / "docker" / "cli-plugins" / "docker-compose"
    (CACHE / "bin" / "docker-compose").unlink(missing_ok=True)
    (CACHE / "bin" / "docker-compose").symlink_to(os.path.relpath(plugin, CACHE / "bin"))
    (CACHE / "complete").touch()


def plugin() -> Path:
    """A folder with `docker-compose`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not (CACHE / "complete").exists():
                _fetch()
        except (OSError, subprocess.TimeoutExpired) as error:
            lacking(f"Docker Compose of Debian trixie cannot be had: {error}; it needs apt and debian-archive-keyring")
    return CACHE / "bin"


def programs() -> Path:
    """A folder with `docker-compose` and the engine's own `docker`."""
    client, found = _client(), plugin()
    if subprocess.run([client, "version"], capture_output=True, timeout=60, check=False).returncode:
        lacking("no Docker engine answers: start `dockerd`")
    link = found / "docker"
    if not link.is_symlink() or str(link.readlink()) != client:
        # In one step: somebody may be running it.
        part = found / f"docker-{PREFIX}"
        part.symlink_to(client)
        part.replace(link)
    return found


def _client() -> str:
    # A newer client speaks to the engine too, but is not what a guest has.
    own = Path("/usr/bin/docker")
    return str(own) if own.exists() else needed("docker", "docker.io")


def docker(*words: str, check: bool = True, stdin: str = "") -> str:
    """What the engine's own client says."""
    done = subprocess.run([_client(), *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def containers(project: str, service: str = "") -> list[str]:
    """The ids of a project's containers, also of those that do not run."""
    label = "label=com.docker.compose"
    only = ("--filter", f"{label}.service={service}") if service else ()
    return docker("ps", "-aq", "--no-trunc", "--filter", f"{label}.project={project}", *only).split()


def clear(project: str) -> None:
    """Removes a project's containers, networks and volumes: sooner than Compose does."""
    if found := containers(project):
        docker("rm", "-f", *found)
    for kind, *more in (("network",), ("volume", "-f")):
        if named := project_names(kind, project):
            docker(kind, "rm", *more, *named)


def project_names(kind: str, project: str) -> list[str]:
    """The names of a project's networks or volumes."""
    shown = ("--format", "{{.Name}}", "--filter", f"label=com.docker.compose.project={project}")
    return docker(kind, "ls", *shown).split()


def create_image(tag: str = IMAGE, message: str = "1") -> None:
    """An image with busybox and nothing else."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(CACHE / "unpacked" / "usr" / "bin" / "busybox", "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("tmp", "run"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(folder)
    command = [_client(), "import", "--change", f"LABEL lctest={message}", "--change", "ENV PATH=/bin", "-", tag]
    subprocess.run(command, input=archive.getvalue(), capture_output=True, timeout=60, check=True)


@dataclass(frozen=True)
class Sshd:
    """An sshd on loopback that lets `key` in."""

    destination: str
    key: Secret
    known_hosts: Path
    pid: int


@contextlib.contextmanager
def sshd(folder: Path, path: Path) -> Iterator[Sshd]:
    """Debian's sshd, whose sessions find programs in `path` first."""
    program = needed("sshd", "openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host, own = create_ssh_key("host"), create_ssh_key("labctl@test")
    _write_key(folder / "host", host)
    (folder / "authorized").write_text(own.public + "\n")
    (folder / "known").write_text(f"docker {' '.join(host.public.split()[:2])}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nPidFile none\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv PATH={path}:{os.environ['PATH']}\n"
    )
    with (folder / "sshd.log").open("w") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL)
        try:
            _await(port, process, folder / "sshd.log")
            yield Sshd(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", own.private, folder / "known", process.pid)
        finally:
            process.terminate()
            process.wait(10)


def _write_key(file: Path, key: SshKey) -> None:
    file.touch(mode=0o600)
    file.write_text(key.private.reveal())


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"sshd did not start: {log.read_text()}")
