"""A Python with what mlserver is locked to, and MLflow's own server; and both as processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

from tests.needs import lacking

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "layers/apps/mlserver"
T = TypeVar("T")


def python_with(locked: str) -> Path:
    """The interpreter with what a locked list in mlserver's folder names, kept between runs.

    Without a package index the test is skipped; in CI it fails.
    """
    names = SOURCE / locked
    sha = hashlib.sha256(names.read_bytes()).hexdigest()[:12]
    home = REPOSITORY / ".cache/labctl" / f"{names.stem}-{sha}-{sys.version_info.major}.{sys.version_info.minor}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").is_file():
            _make(home, names)
    return home / "bin/python"


def python_with_mlserver() -> Path:
    """As in mlserver's image."""
    return python_with("requirements.txt")


def python_with_mlflow() -> Path:
    """With MLflow's own server."""
    return python_with("requirements-test.txt")


def _make(home: Path, locked: Path) -> None:
    uv = shutil.which("uv", path=f"{REPOSITORY / '.cache/uv/bin'}:{os.environ['PATH']}")
    if uv is None:
        lacking("uv is missing: `make test` brings it")
    shutil.rmtree(home, ignore_errors=True)
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    try:
        for argv in (
            [uv, "venv", "--quiet", "--python", sys._base_executable, home],
            [uv, "pip", "install", "--quiet", "--python", home, "--require-hashes", "--compile-bytecode", "-r", locked],
        ):
            subprocess.run(argv, check=True, capture_output=True, text=True, env=environment)
    except subprocess.CalledProcessError as error:
        lacking(f"no Python with {locked.name} ({error.stderr.strip()[-300:]}); needs a package index")
    (home / "complete").touch()


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(ask: Callable[[], T], wanted: Callable[[T], bool], what: str, within_s: float = 40) -> T:
    """What `ask` answers once it is as wanted."""
    end = time.monotonic() + within_s
    found: Any = None
    while time.monotonic() < end:
        try:
            found = ask()
        except requests.RequestException as error:
            found = error
        else:
            if wanted(found):
                return found  # type: ignore[no-any-return]
        time.sleep(0.1)
    raise AssertionError(f"{what}, within {within_s} s: {found}")


@dataclass
class Process:
    """A program that serves on this machine."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=10)

    def post(self, path: str, body: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=30)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes connections, and answers none until the end of the block."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def end(self, number: int = signal.SIGKILL) -> int:
        """Ends all of it; its exit code."""
        if self.process.poll() is None:
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.send_signal(number)
        return self.process.wait(20)


@contextmanager
def running(argv: list[Any], url: str, log: Path, environment: dict[str, str] | None = None) -> Iterator[Process]:
    """A program in a session of its own, until the end of the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "MLSERVER_", "PYTHON"))}
    with log.open("ab") as sink:
        child = subprocess.Popen(
            [str(part) for part in argv],
            env=clean | (environment or {}),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    process = Process(url, child, log)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@contextmanager
def mlflow_server(python: Path, folder: Path) -> Iterator[Process]:
    """MLflow's tracking server on SQLite, with artifacts in a folder that it serves itself."""
    port = free_port()
    argv = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", 1]
    argv += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder / "artifacts"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(argv, f"http://127.0.0.1:{port}", folder / "mlflow.log", environment) as server:
        eventually(lambda: server.get("/health").status_code, lambda code: code == 200, "MLflow serves", within_s=90)
        yield server


@contextmanager
def mlserver(python: Path, folder: Path, **config: Any) -> Iterator[Process]:
    """mlserver with a configuration."""
    port = free_port()
    (folder / "config.json").write_text(json.dumps(config))
    environment = {
        "PYTHONPATH": str(SOURCE),
        "MLSERVER_CONFIG": str(folder / "config.json"),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_PORT": str(port),
        "MLSERVER_VERSION": "test",
        "MLSERVER_IMAGE": "registry.example.com/lab/apps/mlserver@sha256:" + "0" * 64,
    }
    with running([python, "-m", "mlserver"], f"http://127.0.0.1:{port}", folder / "mlserver.log", environment) as server:
        eventually(lambda: server.get("/version").status_code, lambda code: code == 200, "mlserver serves")
        yield server
