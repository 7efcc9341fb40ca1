"""Replays recorded requests against another emulator of Proxmox VE and says where the two disagree.

The recording is what the sandbox's `/_sandbox/recording` wrote. The other one is asked the same, in the same order; compared
are the class of the status and the shape of the answer, not its values.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

TASK_TIMEOUT_S = 10.0
_UPID = re.compile(r"UPID:[^/\s]+")
_NOT_REPLAYED = re.compile(r"/access/ticket")


@dataclass(frozen=True)
class Recorded:
    """One line of a recording."""

    method: str
    path: str
    arguments: dict[str, Any]
    status: int
    reason: str
    data: Any


@dataclass(frozen=True, order=True)
class Difference:
    """One way in which the two disagree.

    Attributes:
        method: Method of the request.
        path: Its path with ids, nodes and UPIDs replaced by words in braces.
        text: What differs: `status: …`, `type: …` or `missing: …`.
    """

    method: str
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} | {self.text}"


@dataclass
class Referee:
    """The other emulator, and what its ids are for ours.

    Attributes:
        endpoint: Its base URL.
        ca_file: Certificate that it is trusted by.
        password: Password of root@pam.
        node: Its node's name.
    """

    endpoint: str
    ca_file: Path
    password: str
    node: str
    session: requests.Session = field(default_factory=requests.Session)
    upids: dict[str, str] = field(default_factory=dict)

    def log_in(self) -> None:
        """Get a ticket."""
        self.session.trust_env = False
        self.session.verify = str(self.ca_file)
        sent = {"username": "root@pam", "password": self.password}
        ticket = self.session.post(f"{self.endpoint}/api2/json/access/ticket", data=sent, timeout=10).json()["data"]
        self.session.headers["CSRFPreventionToken"] = ticket["CSRFPreventionToken"]
        self.session.headers["Cookie"] = f"PVEAuthCookie={ticket['ticket']}"

    def ask(self, method: str, path: str, arguments: dict[str, Any]) -> tuple[int, str, Any]:
        """Status, reason and data of a request."""
        where: dict[str, Any] = {"params": arguments} if method in {"GET", "DELETE"} else {"data": arguments}
        response = self.session.request(method, f"{self.endpoint}/api2/json{path}", timeout=30, **where)
        try:
            body = response.json()
        except ValueError:
            body = {}
        return response.status_code, response.reason, body.get("data") if isinstance(body, dict) else None

    def wait(self, upid: str) -> None:
        """Wait for the end of a task."""
        deadline = time.monotonic() + TASK_TIMEOUT_S
        while time.monotonic() < deadline:
            _, _, data = self.ask("GET", f"/nodes/{self.node}/tasks/{upid}/status", {})
            if not isinstance(data, dict) or data.get("status") == "stopped":
                return
            time.sleep(0.02)


def read_recording(file: Path) -> Iterator[Recorded]:
    """The requests of a recording, without logins."""
    for line in file.read_text().splitlines():
        raw = json.loads(line)
        if not _NOT_REPLAYED.search(raw["path"]):
            answer = raw["answer"] if isinstance(raw["answer"], dict) else {}
            yield Recorded(raw["method"], raw["path"], raw["arguments"], raw["status"], raw["reason"], answer.get("data"))


def replay(recording: Path, referee: Referee) -> list[Difference]:
    """Ask the referee everything in a recording and return each way in which it disagrees, once.

    Args:
        recording: JSON lines of the sandbox.
        referee: A fresh emulator.
    """
    referee.log_in()
    kinds = {"content": "iso,vztmpl,backup,import,snippets"}
    status, reason, _ = referee.ask("PUT", "/storage/local", kinds)
    assert status == 200, f"referee: PUT /storage/local: {status} {reason}"
    found: set[Difference] = set()
    for request in read_recording(recording):
        found.update(_replayed(request, referee))
    return sorted(found)


def _replayed(request: Recorded, referee: Referee) -> Iterator[Difference]:
    path = _translated(request.path, referee)
    arguments = {name: value for name, value in request.arguments.items() if name != "digest"}
    status, reason, data = referee.ask(request.method, path, arguments)
    where = _words(request.path)
    if isinstance(data, str) and data.startswith("UPID:"):
        if isinstance(request.data, str):
            referee.upids[request.data] = data
        referee.wait(data)
    if status // 100 != request.status // 100:
        ours, theirs = (f"{code} {_words(text)}" for code, text in ((request.status, request.reason), (status, reason)))
        yield Difference(request.method, where, f"status: ours {ours}, theirs {theirs}")
    elif status < 400 and not (isinstance(request.data, dict) and request.data.get("status") == "running" and "/tasks/" in path):
        for text in differences(request.data, data, "data"):
            yield Difference(request.method, where, text)


def _translated(path: str, referee: Referee) -> str:
    path = _UPID.sub(lambda match: referee.upids.get(match[0], match[0]), path)
    return re.sub(r"^/nodes/[^/]+", f"/nodes/{referee.node}", path)


def _words(text: str) -> str:
    text = _UPID.sub("{upid}", text)
    text = re.sub(r"^/nodes/[^/]+", "/nodes/{node}", text)
    return re.sub(r"(?<![\w.-])\d{3,}(?![\w.])", "{vmid}", text)


def shape(value: Any) -> str:
    """The JSON type of a value. PVE's numbers and booleans are one: it is written in Perl."""
    if value is None:
        return "null"
    return (
        "number"
        if isinstance(value, bool | int | float)
        else {"str": "string", "list": "list", "dict": "object"}[type(value).__name__]
    )


def differences(ours: Any, theirs: Any, at: str) -> Iterator[str]:
    """How the shape of our answer differs from theirs: another type, or a field that they always have and we do not."""
    if shape(ours) != shape(theirs):
        yield f"type: {at} is {shape(ours)}, theirs {shape(theirs)}"
    elif isinstance(ours, dict):
        for name in sorted(set(theirs) - set(ours)):
            yield f"missing: {at}.{name}"
        for name in sorted(set(theirs) & set(ours)):
            yield from differences(ours[name], theirs[name], f"{at}.{name}")
    elif isinstance(ours, list) and ours and theirs:
        yield from differences(_merged(ours), _merged(theirs), f"{at}[]")


def _merged(items: list[Any]) -> Any:
    """One element that stands for a list: of objects, the fields that all of them have."""
    if not all(isinstance(item, dict) for item in items):
        return items[0]
    common = set(items[0]).intersection(*(set(item) for item in items))
    return {name: items[0][name] for name in common}
