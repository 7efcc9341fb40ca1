"""Starts, stops and describes a sandbox. What the engine calls; it imports nothing that the sandbox itself is made of."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labctl.model.errors import AdapterError, UserError
from labctl.model.guestfiles import ROLES
from labctl.sandbox.choice import kept_choice
from labctl.sandbox.credentials import CredentialFiles
from labctl.sandbox.layout import Layout
from labctl.sandbox.listeners import listener
from labctl.sandbox.settings import SSH_USERNAME, TOKEN_ID, GuestInfo, SandboxConfig, SandboxInfo

__all__ = ["GuestInfo", "SandboxConfig", "SandboxInfo", "control", "reset", "start", "status", "stop", "wait_ready"]

STOP_TIMEOUT_S = 60.0
PORT_TIMEOUT_S = 3.0
CONTAINERS_TIMEOUT_S = 180.0
_LOG_TAIL = 15


def start(
    home: Path, config: SandboxConfig, *, timeout_s: float = 30, say: Callable[[str], None] = lambda _text: None
) -> SandboxInfo:
    """Start the sandbox of a home, unless it runs, and wait until it answers and its guests have been started.

    Args:
        home: Its folder; made where it is missing, readable by its owner only.
        config: Node, addresses and ports.
        timeout_s: How long to wait; container guests that boot with it have more.
        say: Where progress goes, as that of building the guests' base image.

    Raises:
        UserError: A port is taken, it runs with other settings, or it was made with another kind of guests.
        AdapterError: It does not come up; the message has the end of its log. Or no Docker engine answers.
    """
    layout = Layout(home.resolve())
    layout.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(layout):
        _settle(layout)
        if _daemon(layout):
            _require_same(layout, config)
            _wait_booted(layout, None, timeout_s)
        else:
            require_same_guests(layout.home, config)
            for port in (config.api_port, config.ssh_port):
                _require_free(config.address, port)
            if config.guests == "container":
                _require_engine(layout, config, say)
                timeout_s = max(timeout_s, CONTAINERS_TIMEOUT_S)
            CredentialFiles(layout.home).make(config.address)
            config.write(layout.config)
            process = _spawn(layout)
            _wait_booted(layout, process, timeout_s)
            if _daemon(layout) not in (0, process.pid):
                # It comes too late, and would take the home as soon as the other one ends.
                process.kill()
                process.wait()
    info = status(layout.home)
    if info is None or not info.running:
        raise AdapterError("the sandbox ended right after its start", where=str(layout.log), hint=_tail(layout.log))
    return info


def require_same_guests(home: Path, config: SandboxConfig) -> None:
    """Stop where the sandbox of a home was made with the other kind of guests: what they hold would be out of reach.

    Raises:
        UserError: It was.
    """
    kept = kept_choice(home)
    if kept and kept != config.guests:
        raise UserError(
            f"this sandbox was made with guests of kind `{kept}`, and now they are to be of kind `{config.guests}`",
            where=str(home),
            hint=f"`labctl sandbox reset` deletes it with all its data; `guests: {kept}` under target.sandbox keeps it.",
        )


def wait_ready(home: Path, *, timeout_s: float = 30) -> SandboxInfo | None:
    """The sandbox of a home once it answers, None where none runs: who started it may have been killed right after.

    Raises:
        AdapterError: It does not come up.
    """
    layout = Layout(home.resolve())
    if not layout.home.is_dir() or not _daemon(layout):
        return None
    _wait_booted(layout, None, timeout_s)
    return status(layout.home)


def stop(home: Path) -> bool:
    """Stop the sandbox of a home with all its guests; whether it ran. State and disks stay.

    Raises:
        AdapterError: It does not end.
    """
    layout = Layout(home.resolve())
    if not layout.home.is_dir():
        return False
    with _locked(layout):
        return _stop(layout)


def reset(home: Path) -> None:
    """Kill the sandbox of a home and delete all that it has, on disk and in memory.

    Raises:
        AdapterError: It does not end.
    """
    from labctl.sandbox.guests.processes import Children
    from labctl.sandbox.guests.runtime_folder import remove_runtime_folder

    layout = Layout(home.resolve())
    if not layout.home.is_dir():
        return
    with _locked(layout), _alone(layout):
        if kept_choice(layout.home) == "container":
            from labctl.sandbox.guests.engine import Engine

            Engine().remove_all(layout.home)
        Children(layout.children).end_leftovers(grace_s=0)
        remove_runtime_folder(layout.home)
        shutil.rmtree(layout.home)


def status(home: Path) -> SandboxInfo | None:
    """The sandbox of a home, None where none was ever started there."""
    layout, files = Layout(home.resolve()), CredentialFiles(home.resolve())
    if not (files.exist() and layout.config.is_file() and files.ca.is_file()):
        return None
    config, credentials = SandboxConfig.read(layout.config), files.read()
    pid = _daemon(layout)
    return SandboxInfo(
        running=bool(pid),
        pid=pid,
        endpoint=config.endpoint,
        ca_file=files.ca,
        token_id=TOKEN_ID,
        token=credentials.token,
        root_password=credentials.root_password,
        ssh_address=config.address,
        ssh_port=config.ssh_port,
        ssh_username=SSH_USERNAME,
        ssh_private_key_file=files.ssh_key,
        ssh_host_key=" ".join(files.ssh_host_key.with_suffix(".pub").read_text().split()[:2]),
        control_token=credentials.control_token,
        log_file=layout.log,
        guests=_guests(layout, running=bool(pid)),
    )


def control(home: Path, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = 5) -> Any:
    """Ask the control address of a running sandbox (`/_sandbox/<path>`) and return its JSON value.

    Raises:
        AdapterError: It does not answer, or says no.
    """
    import http.client
    import ssl

    layout, files = Layout(home.resolve()), CredentialFiles(home.resolve())
    config = SandboxConfig.read(layout.config)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(files.ca)
    connection = http.client.HTTPSConnection(config.address, config.api_port, context=trust, timeout=timeout_s)
    headers = {"X-Sandbox-Token": files.read().control_token.reveal(), "Content-Type": "application/json"}
    try:
        connection.request(method, f"/_sandbox/{path}", json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        value = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AdapterError(
            f"the sandbox does not answer: {error}", where=config.endpoint, hint=f"Its log: {layout.log}"
        ) from error
    finally:
        connection.close()
    if response.status >= 400:
        raise AdapterError(
            f"the sandbox says no: {value.get('message')} {value.get('errors') or ''}".strip(), where=f"/_sandbox/{path}"
        )
    return value


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """One start, stop or reset at a time."""
    with layout.start_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _settle(layout: Layout) -> None:
    """Wait for a daemon that has the home and does not say who it is: it is about to, or it is ending.

    Raises:
        AdapterError: It does neither.
    """
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while not _daemon(layout) and _is_held(layout.lock):
        if time.monotonic() > deadline:
            raise AdapterError("the sandbox does not end", where=str(layout.log), hint=_tail(layout.log))
        time.sleep(0.05)


def _is_held(lock_file: Path) -> bool:
    with lock_file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@contextlib.contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Kill the daemon of a home, and let none begin: a start that was killed may have left one that has yet to take the lock.

    Raises:
        AdapterError: It does not end.
    """
    with layout.lock.open("a") as lock:
        while True:
            # Nothing is to be kept, so nothing is asked to end in good order.
            _stop(layout, signal.SIGKILL)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
        yield


def _daemon(layout: Layout) -> int:
    """The pid of the daemon that serves a home, 0 for none. A pid that went to another process does not count."""
    from labctl.sandbox.pids import start_time

    try:
        entry = json.loads(layout.pid.read_text())
    except (OSError, ValueError):
        return 0
    pid = int(entry["pid"])
    return pid if entry["started"] and start_time(pid) == entry["started"] else 0


def _require_same(layout: Layout, config: SandboxConfig) -> None:
    running = SandboxConfig.read(layout.config)
    if running != config:
        raise UserError(
            f"the sandbox runs already with other settings: {running.endpoint}, node {running.node}, guests in {running.network}",
            where=str(layout.home),
            hint="Run `labctl sandbox stop` first.",
        )


def _require_free(address: str, port: int) -> None:
    """Stop unless the port is free. One that nobody listens on any more, of a process that was killed, becomes free by itself.

    Raises:
        UserError: It is taken.
    """
    deadline = time.monotonic() + PORT_TIMEOUT_S
    while (problem := _bind(address, port)) is not None:
        who = listener(address, port)
        if who or time.monotonic() > deadline:
            raise UserError(
                f"the sandbox cannot listen on {address}:{port}: {problem}" + (f", taken by {who}" if who else ""),
                hint="End what listens there, or set another address or port under `target.sandbox` in lab.yaml.",
            )
        time.sleep(0.05)


def _bind(address: str, port: int) -> str | None:
    """Why a port cannot be listened on, None where it can."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def _require_engine(layout: Layout, config: SandboxConfig, say: Callable[[str], None]) -> None:
    """Stop unless container guests can start: an engine answers, their network is free, their base image is there or built."""
    from labctl.sandbox.guests.engine import Engine, label_of
    from labctl.sandbox.guests.image import ensure_image

    engine = Engine()
    wanted = ipaddress.ip_network(config.guest_network)
    for name, subnet in engine.subnets().items():
        if name != f"labctl-{label_of(layout.home)}" and wanted.overlaps(ipaddress.ip_network(subnet)):
            raise UserError(
                f"the guests' network {wanted} overlaps with {subnet}, network {name} of the Docker engine",
                where="target.sandbox.guest_network",
                hint=f"Set another /24 there, or remove that network: `docker network rm {name}`.",
            )
    ensure_image(engine, say)
    engine.close()


def _spawn(layout: Layout) -> subprocess.Popen[bytes]:
    layout.log.touch(mode=0o600)
    keep = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "XDG_RUNTIME_DIR", "PYTHONPATH", "DOCKER_HOST")
        if name in os.environ
    }
    with layout.log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "labctl.sandbox", "--home", str(layout.home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=keep,
            start_new_session=True,
            # Its state, its chroot and the guests' disks are nobody else's; what a guest makes with a mode keeps that mode.
            umask=0o077,
        )


def _wait_booted(layout: Layout, process: subprocess.Popen[bytes] | None, timeout_s: float) -> None:
    """Wait until the daemon answers and its guests have been started.

    Args:
        layout: Its home.
        process: It, where this start began it. Another one may have been faster, begun by a start that was killed.
        timeout_s: How long to wait.

    Raises:
        AdapterError: It ended, or does not answer in time; one that this start began is then ended.
    """
    deadline = time.monotonic() + timeout_s
    while (_daemon(layout) or (process and process.poll() is None)) and time.monotonic() < deadline:
        if _daemon(layout):
            with contextlib.suppress(AdapterError):
                if control(layout.home, "GET", "status", timeout_s=2)["booted"]:
                    return
        time.sleep(0.05)
    ended = process.poll() if process else None
    if process and ended is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    what = f"did not answer within {timeout_s:g} s" if ended is None else f"ended with exit code {ended}"
    raise AdapterError(f"the sandbox {what}", where=str(layout.log), hint=_tail(layout.log))


def _stop(layout: Layout, number: signal.Signals = signal.SIGTERM) -> bool:
    from labctl.sandbox.pids import start_time

    _settle(layout)
    pid = _daemon(layout)
    if not pid:
        return False
    started = start_time(pid)
    os.kill(pid, number)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    # A process that was killed may be gone by name while its last threads still hold its files, the sockets among them.
    while _is_alive(pid, started) or _is_held(layout.lock):
        if time.monotonic() > deadline:
            raise AdapterError(f"the sandbox, process {pid}, does not end", where=str(layout.log), hint=_tail(layout.log))
        time.sleep(0.05)
    return True


def _is_alive(pid: int, started: str) -> bool:
    """Whether a process still runs. One that this very process started is reaped here, or it would stay a zombie."""
    from labctl.sandbox.pids import start_time

    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return start_time(pid) == started


def _guests(layout: Layout, *, running: bool) -> tuple[GuestInfo, ...]:
    if running:
        with contextlib.suppress(AdapterError):
            return tuple(
                GuestInfo(**{**guest, "services": tuple((name, state) for name, state in guest["services"])})
                for guest in control(layout.home, "GET", "status")["guests"]
            )
    try:
        guests = json.loads(layout.state.read_text())["guests"].values()
    except (OSError, ValueError, KeyError):
        return ()
    return tuple(_stopped_guest(guest) for guest in sorted(guests, key=lambda one: int(one["vmid"])))


def _stopped_guest(guest: dict[str, Any]) -> GuestInfo:
    tags = str(guest["config"].get("tags", "")).split(";")
    role = next((role.name for role in ROLES.values() if role.tag in tags), "")
    static = re.search(r"(?:^|,)ip=([\d.]+)", str(guest["config"].get("ipconfig0", "")))
    return GuestInfo(guest["vmid"], guest["name"], role, "stopped", static[1] if static else "")


def _tail(log_file: Path) -> str:
    try:
        lines = log_file.read_text(errors="replace").splitlines()[-_LOG_TAIL:]
    except OSError:
        return ""
    return "The end of its log:\n" + "\n".join(lines)
