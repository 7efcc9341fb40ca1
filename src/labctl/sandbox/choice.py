"""Chooses what runs behind a sandbox's guests: `container` or `appliance`. The deciding is pure; `look` is what it decides on."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labctl.model.errors import UserError
from labctl.sandbox.guests.recipe import INSTALL, cannot_build, image_name
from labctl.sandbox.guests.socketpath import engine_socket
from labctl.sandbox.layout import Layout
from labctl.sandbox.settings import SandboxConfig

Kind = Literal["container", "appliance"]
Wish = Literal["auto", "container", "appliance"]

PROBE_TIMEOUT_S = 3.0
WARNING = "they are root with SYS_ADMIN on this machine's kernel, no security boundary"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine offers.

    Attributes:
        socket: Where its Docker engine listens, or would.
        engine: The engine's version, "" where none answers.
        image: Whether the engine has the guests' base image.
        builder: Why the image cannot be built here, "" where it can.
    """

    socket: str
    engine: str
    image: bool
    builder: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs behind the guests.

    Attributes:
        kind: The runtime.
        why: In a few words.
        wish: What lab.yaml says.
    """

    kind: Kind
    why: str
    wish: Wish = "auto"

    @property
    def line(self) -> str:
        """What to tell people."""
        if self.kind == "container":
            return f"guests boot as systemd containers ({self.why}): {WARNING}"
        return f"guests are appliances, which do not boot ({self.why})"


def choose(wish: Wish, home: Path, override: Kind | None = None) -> Choice:
    """The runtime for the sandbox of a home.

    Args:
        wish: What lab.yaml says.
        home: The sandbox's folder. What it was made with stands, unless the wish has changed since to the other.
        override: What the command line says.
    """
    if override:
        return Choice(override, "as asked for", wish)
    kept = _kept(home)
    if kept and wish in {"auto", kept.guests, kept.wish}:
        return Choice(_kind(kept.guests), "as this sandbox was made", wish)
    return decide(wish, look() if wish == "auto" else None)


def decide(wish: Wish, facts: Facts | None) -> Choice:
    """The runtime that follows from a wish and a machine.

    Args:
        wish: What lab.yaml says.
        facts: What the machine offers; needed for `auto` alone.
    """
    if wish != "auto" or facts is None:
        return Choice(_kind(wish), "as lab.yaml says", wish)
    if not facts.engine:
        return Choice("appliance", f"no Docker engine answers on {facts.socket}")
    if not facts.image and facts.builder:
        return Choice("appliance", f"their base image is not built and {facts.builder}: `{INSTALL}`")
    return Choice("container", f"Docker {facts.engine} answers on {facts.socket}")


def kept_choice(home: Path) -> Kind | None:
    """What the sandbox of a home was made with; None where there is none yet."""
    kept = _kept(home)
    return _kind(kept.guests) if kept else None


def _kept(home: Path) -> SandboxConfig | None:
    try:
        return SandboxConfig.read(Layout(home.resolve()).config)
    except (OSError, ValueError, TypeError, UserError):
        return None


def _kind(name: str) -> Kind:
    return "container" if name == "container" else "appliance"


def look() -> Facts:
    """What this machine offers."""
    path = engine_socket()
    version = _ask(path, "/version")
    engine = str(version.get("Version", "")) if isinstance(version, dict) else ""
    found = _ask(path, f"/images/{image_name()}/json") if engine else None
    return Facts(path, engine, isinstance(found, dict) and "Id" in found, cannot_build())


def _ask(path: str, call: str) -> object:
    """A call of the engine's API without its SDK, which takes long to load; None where it does not answer."""
    connection = http.client.HTTPConnection("localhost", timeout=PROBE_TIMEOUT_S)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
        line.settimeout(PROBE_TIMEOUT_S)
        try:
            line.connect(path)
            connection.sock = line
            connection.request("GET", call)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
