"""fakepve, an independent emulator of the PVE API, as a process of its own.

It is AGPL: it is installed into a virtual environment of its own below `.cache`, talked to over HTTPS, and never imported.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from labctl.sandbox.credentials import CredentialFiles
from tests.e2e.referee.replay import Referee

VERSION = "0.5.0"
CACHE = Path(__file__).parents[3] / ".cache" / "fakepve"
ADDRESS = "127.0.0.1"
START_TIMEOUT_S = 30.0


def installed() -> Path:
    """The program, installed where it is not there yet."""
    program = CACHE / VERSION / "bin" / "fakepve"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(CACHE / VERSION)], check=True)
        pip = [str(CACHE / VERSION / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"fakepve=={VERSION}"], check=True)
    return program


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Referee]:
    """A fresh fakepve without guests; it ends with the block.

    Args:
        folder: Where its files go.
    """
    program = installed()
    files = CredentialFiles(folder / "tls")
    password = files.make(ADDRESS).root_password.reveal()
    (folder / "guests.json").write_text('{"guests": []}')
    with socket.create_server((ADDRESS, 0)) as free:
        port = free.getsockname()[1]
    arguments = ["--host", ADDRESS, "--port", str(port), "--user", "root@pam", f"--password={password}", "--time-scale", "0"]
    certificate = ["--cert", str(files.server_certificate), "--key", str(files.server_key)]
    with (folder / "fakepve.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), *arguments, *certificate, str(folder / "guests.json")],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )
    referee = Referee(f"https://{ADDRESS}:{port}", files.ca, password, node="")
    try:
        _wait(process, referee, folder / "fakepve.log")
        referee.log_in()
        referee.node = referee.ask("GET", "/nodes", {})[2][0]["node"]
        yield referee
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], referee: Referee, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(requests.exceptions.ConnectionError):
            referee.log_in()
            return
        time.sleep(0.1)
    raise AssertionError(f"fakepve did not start:\n{log.read_text()[-2000:]}")
