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

IMAGE = "lctest:1"
CACHE = Path(__file__).parents[1] / ".cache" / "labctl" / "compose"
PACKAGES = ("docker-compose", "busybox-static")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian trixie main\n"
APPLETS = ("sh", "sleep", "cat", "echo", "env", "test", "touch", "true", "false")


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


def programs() -> Path:
    """A folder with `docker-compose` and the engine's own `docker`."""
    # A newer client speaks to the engine too, but is not what a guest has.
    own = Path("/usr/bin/docker")
    docker = str(own) if own.exists() else needed("docker", "docker.io")
    if subprocess.run([docker, "version"], capture_output=True, timeout=60, check=False).returncode:
        lacking("no Docker engine answers: start `dockerd`")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        try:
            if not (CACHE / "complete").exists():
                _fetch()
        except (OSError, subprocess.TimeoutExpired) as error:
            lacking(f"Docker Compose of Debian trixie cannot be had: {error}; it needs apt and debian-archive-keyring")
        link = CACHE / "bin" / "docker"
        link.unlink(missing_ok=True)
        link.symlink_to(docker)
    return CACHE / "bin"


def create_image(docker: str, tag: str = IMAGE, message: str = "1") -> None:
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
    command = [docker, "import", "--change", f"LABEL lctest={message}", "--change", "ENV PATH=/bin", "-", tag]
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
