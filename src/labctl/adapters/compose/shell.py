"""A shell where `docker` is: on this machine, or in a guest over one SSH connection.

Scripts go in on standard input, so that no secret in them is ever an argument of a process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from labctl.adapters.compose.errors import EngineUnreachable, Interrupted, ShellError
from labctl.adapters.compose.terminal import follow, key_file
from labctl.model.errors import UserError
from labctl.model.secret import Secret

CONNECT_TIMEOUT_S = 15
SESSIONS = 8
"""At once over one connection: sshd's own limit is 10 (`MaxSessions`)."""
END_TIMEOUT_S = 30.0
_SSH_FAILED = 255
# Each command over SSH has a process group of its own, which all that it starts is in.
_END = """\
lab_group() {
  lab_pid=$(pgrep -o -f -- '^sh -s -- NAME') && lab_found=$(ps -o pgid= -p "$lab_pid" | tr -d ' ') && [ -n "$lab_found" ] &&
    lab_pgid=$lab_found
}
lab_try=0 lab_pgid=
while lab_group && [ "$lab_try" -lt 60 ]; do
  case $lab_try in 0) kill -s INT -- "-$lab_pgid" ;; 40) kill -s KILL -- "-$lab_pgid" ;; esac
  lab_try=$((lab_try + 1))
  sleep 0.25
done
# What it had in the background does not mind an interrupt.
[ -z "$lab_pgid" ] || kill -s KILL -- "-$lab_pgid" 2>/dev/null || :
"""
_POLL_S = 0.2


class Shell(ABC):
    """Runs POSIX scripts where `docker` is. Several threads may use one."""

    where: str
    patience_s: float = 0.0
    """How long an engine that may be starting is waited for."""

    def run(self, script: str, *, timeout_s: float = 60.0, stop: threading.Event | None = None, repeat: bool = True) -> str:
        """What the script prints on standard output.

        Args:
            script: The script. Its commands read nothing: standard input is empty for them.
            timeout_s: How long it may take.
            stop: Ends it when it is set.
            repeat: Whether it can be run again when the connection was lost meanwhile. One that was not even begun always is.

        Raises:
            ShellError: It ended with another exit code than 0, or not in time.
            Interrupted: `stop` was set.
            EngineUnreachable: There is no way to the shell, or it was lost and the script is not to be repeated.
        """
        # dash reads a script bit by bit; as one function it is read to its end before a command could eat the rest of it.
        text = f"lab_main() {{\n{script}\n}}\nlab_main </dev/null\n"
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return self._call(["sh", "-s"], text.encode(), timeout_s, stop, repeat=repeat)
            except EngineUnreachable as error:
                if not error.passing or time.monotonic() > deadline or (stop is not None and stop.is_set()):
                    raise
            time.sleep(1.0)

    def feed(self, script: str, content: bytes, *, timeout_s: float = 600.0, stop: threading.Event | None = None) -> str:
        """As `run`, for a script that is no secret and reads `content` from standard input."""
        return self._call(["sh", "-c", script], content, timeout_s, stop, repeat=True)

    @abstractmethod
    def follow(self, script: str) -> int:
        """Runs a script that is no secret on this process's own output; returns its exit code."""

    def close(self) -> None:  # noqa: B027 - a local shell holds nothing
        """Ends the connection."""

    @abstractmethod
    def _call(
        self, command: Sequence[str], content: bytes, timeout_s: float, stop: threading.Event | None, *, repeat: bool
    ) -> str:
        """Runs the command where `docker` is."""

    def _finish(
        self,
        command: Sequence[str],
        content: bytes,
        timeout_s: float,
        stop: threading.Event | None,
        env: Mapping[str, str] | None = None,
        ending: Callable[[], None] = lambda: None,
    ) -> tuple[int, str, str]:
        """Runs a command in a session of its own: what a terminal sends to labctl must not reach it.

        `ending` is called before it is ended here.
        """
        with subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env) if env is not None else None,
            start_new_session=True,
        ) as process:
            deadline, sent = time.monotonic() + timeout_s, content
            while True:
                try:
                    out, err = process.communicate(sent, timeout=_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    sent = b""
                    if stop is not None and stop.is_set():
                        ending()
                        _end(process)
                        raise Interrupted("was interrupted", where=self.where) from None
                    if time.monotonic() > deadline:
                        ending()
                        _end(process)
                        raise ShellError(f"did not end within {timeout_s:g} s", where=self.where, code=-1) from None
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupts the process with what it started, and waits a little before it is killed."""
    for number, patience_s in ((signal.SIGINT, 10.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=patience_s)
            return


class LocalShell(Shell):
    """A shell on this machine.

    Args:
        docker_host: The engine, as in `DOCKER_HOST`; "" for the default one. With `tcp://`, `DOCKER_CERT_PATH` is for TLS.
        env: More variables.
        path: Folders to look for programs in first.
    """

    def __init__(self, docker_host: str = "", env: Mapping[str, str] | None = None, path: Sequence[Path] = ()) -> None:
        self.where = docker_host or "the Docker engine of this machine"
        # Compose's own settings, such as profiles, would be the user's, not the project's.
        users = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
        found = {**users, **(env or {})}
        if docker_host:
            found["DOCKER_HOST"] = docker_host
        if "DOCKER_CERT_PATH" in found and docker_host.startswith("tcp://"):
            found.setdefault("DOCKER_TLS_VERIFY", "1")
        found["PATH"] = os.pathsep.join([*map(str, path), found.get("PATH", os.defpath)])
        self._env = found

    def follow(self, script: str) -> int:
        """As `Shell.follow`."""
        return follow(["sh", "-c", script], self._env)

    def _call(
        self,
        command: Sequence[str],
        content: bytes,
        timeout_s: float,
        stop: threading.Event | None,
        *,
        repeat: bool,  # noqa: ARG002 - no connection that could be lost
    ) -> str:
        code, out, err = self._finish(command, content, timeout_s, stop, self._env)
        if code:
            raise ShellError.of(code, err or out, self.where)
        return out


class SshShell(Shell):
    """A shell in a guest, over one connection that all scripts share.

    Nothing of the user's own SSH counts: no configuration, no agent, no known hosts, no other key.

    Args:
        destination: `ssh://user@host[:port]`.
        key: The private key, as PEM.
        known_hosts: File with the guest's host key.
        host_alias: The guest's name in it.
        patience_s: How long a guest that may be starting is waited for.
    """

    def __init__(
        self, destination: str, *, key: Secret, known_hosts: Path, host_alias: str = "", patience_s: float = 0.0
    ) -> None:
        parts = urlsplit(destination)
        if parts.scheme != "ssh" or not parts.hostname or not parts.username:
            raise UserError(f"{destination!r} is no SSH address", hint="Write ssh://user@host, or ssh://user@host:port.")
        self.where, self.patience_s = destination, patience_s
        self._address = f"{parts.username}@{parts.hostname}"
        self._port, self._key = parts.port or 22, key
        self._known_hosts, self._alias = known_hosts, host_alias or parts.hostname
        self._lock, self._free = threading.Lock(), threading.BoundedSemaphore(SESSIONS)
        self._folder: Path | None = None
        self._master: subprocess.Popen[bytes] | None = None

    def follow(self, script: str) -> int:
        """As `Shell.follow`. A terminal here is one there."""
        self._connect()
        terminal = ["-t"] if os.isatty(0) and os.isatty(1) else []
        return follow([*self._command(), *terminal, self._address, "--", script], None)

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            self._close()

    def _call(
        self, command: Sequence[str], content: bytes, timeout_s: float, stop: threading.Event | None, *, repeat: bool
    ) -> str:
        # A name by which the script is found in the guest: what ends here does not end there by itself.
        name = f"labctl-{secrets.token_hex(8)}"
        remote = command[-1] if command[:2] == ["sh", "-c"] else f"sh -s -- {name}"
        with self._free:
            for last in (False, True):
                master = self._connect()
                command = [*self._command(), self._address, "--", remote]
                # There first: the connection holds the output of a client that is gone, until the command there has ended.
                code, out, err = self._finish(command, content, timeout_s, stop, ending=lambda: self._end_there(name))
                lost = code == _SSH_FAILED and self._is_lost(master)
                if not lost or last:
                    break
                if not repeat:
                    raise EngineUnreachable(
                        "the connection was lost while a command ran, and whether that did its work is not known",
                        where=self.where,
                        hint="Look at what it was to do, then run it again if it did not.",
                    )
                self._connect()
                self._end_there(name)
        if lost:
            raise EngineUnreachable.of(err, self.where)
        if code:
            raise ShellError.of(code, err or out, self.where)
        return out

    def _end_there(self, name: str) -> None:
        """Interrupts a script in the guest, with all that it started, and waits until it has ended."""
        script = _END.replace("NAME", name)
        self._finish([*self._command(), self._address, "--", "sh -s"], script.encode(), END_TIMEOUT_S, None)

    def _command(self) -> list[str]:
        assert self._folder is not None
        return self._ssh({"ControlPath": str(self._folder / "s"), "ControlMaster": "no"})

    def _ssh(self, more: Mapping[str, str]) -> list[str]:
        program = shutil.which("ssh")
        if program is None:
            raise UserError("there is no ssh on PATH", hint="apt-get install openssh-client")
        options = {
            "UserKnownHostsFile": '"' + str(self._known_hosts).replace("%", "%%") + '"',
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "HostKeyAlias": self._alias,
            "CheckHostIP": "no",
            "BatchMode": "yes",
            "PreferredAuthentications": "publickey",
            "IdentityAgent": "none",
            "IdentitiesOnly": "yes",
            # What finds the shared connection gone goes there by itself, and has no key for it.
            "IdentityFile": "none",
            "ConnectTimeout": str(CONNECT_TIMEOUT_S),
            "ServerAliveInterval": "15",
            "LogLevel": "ERROR",
            **more,
        }
        given = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
        return [program, "-F", "/dev/null", "-p", str(self._port), *given]

    def _is_lost(self, master: subprocess.Popen[bytes]) -> bool:
        """Whether the connection that a command went over has ended; what is left of it is closed."""
        with self._lock:
            if master is not self._master:
                return True
            # A client hears of the end before this process does, so that the connection itself is asked.
            if master.poll() is None and self._answers():
                return False
            self._close()
            return True

    def _answers(self) -> bool:
        command = [*self._command(), "-O", "check", self._address]
        try:
            return self._finish(command, b"", CONNECT_TIMEOUT_S, None)[0] == 0
        except ShellError:
            return False

    def _connect(self) -> subprocess.Popen[bytes]:
        """The connection's own process; opens it, unless it is open.

        Raises:
            EngineUnreachable: It cannot be opened.
        """
        with self._lock:
            if self._master is not None and self._master.poll() is None:
                return self._master
            self._close()
            if not self._known_hosts.is_file():
                raise EngineUnreachable.of("no host key is known", self.where)
            # Short, because the path of a socket may have no more than about 100 bytes; 0700 as mkdtemp makes it.
            self._folder = Path(tempfile.mkdtemp(prefix="labctl-", dir="/tmp"))
            socket = self._folder / "s"
            with key_file(self._key) as key:
                options = {"ControlPath": str(socket), "ControlMaster": "yes", "ControlPersist": "no", "IdentityFile": key}
                # `cat` ends when this process does, however it ends, and the connection with it.
                self._master = subprocess.Popen(
                    [*self._ssh(options), self._address, "--", "cat"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
                deadline = time.monotonic() + CONNECT_TIMEOUT_S + 5
                while not socket.exists():
                    if self._master.poll() is not None or time.monotonic() > deadline:
                        said = self._ended()
                        self._close()
                        raise EngineUnreachable.of(said, self.where)
                    time.sleep(0.01)
            return self._master

    def _ended(self) -> str:
        assert self._master is not None
        self._master.kill()
        return self._master.communicate()[1].decode(errors="replace")

    def _close(self) -> None:
        if self._master is not None:
            self._master.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._master.wait(5)
            for stream in (self._master.stdin, self._master.stderr):
                if stream:
                    stream.close()
            self._master = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
