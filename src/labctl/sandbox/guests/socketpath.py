"""Where the Docker engine listens."""

from __future__ import annotations

import os

DEFAULT_SOCKET = "/var/run/docker.sock"


def engine_socket() -> str:
    """The engine's socket on this machine: that of `DOCKER_HOST` where it names one.

    An engine elsewhere cannot run guests: they share folders with the sandbox.
    """
    named = os.environ.get("DOCKER_HOST", "")
    return named.removeprefix("unix://") if named.startswith("unix://") else DEFAULT_SOCKET
