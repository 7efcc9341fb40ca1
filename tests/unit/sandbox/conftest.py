from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from labctl.model.secret import Secret
from labctl.sandbox.guests.runtime import AgentError, GuestError, GuestSpec, Say
from labctl.sandbox.pve.control import Control
from labctl.sandbox.pve.host import Host
from labctl.sandbox.pve.identity import seed_accounts
from labctl.sandbox.pve.recording import Recorder
from labctl.sandbox.pve.server import Api
from labctl.sandbox.pve.state import StateFile
from labctl.sandbox.settings import TOKEN_ID, SandboxConfig

CONTROL = "control-token"
ADMIN = "0000-admin"


@dataclass
class FakeRuntime:
    """Runs nothing; keeps what it was asked."""

    started: list[GuestSpec] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    refuse: str = ""

    async def start(self, spec: GuestSpec, say: Say) -> None:
        if self.refuse:
            raise GuestError(self.refuse)
        self.started.append(spec)
        say("booted")

    async def stop(self, vmid: int, say: Say, *, grace_s: float) -> None:
        self.calls.append(f"stop {vmid}")

    async def delete(self, vmid: int) -> None:
        self.calls.append(f"delete {vmid}")

    async def agent(self, vmid: int, command: str, arguments: Mapping[str, str | list[str]]) -> object:
        if command == "exec":
            raise AgentError("no such program")
        return {"asked": command}

    async def open(self, ended: Callable[[int], None]) -> None: ...

    async def services(self, vmid: int) -> dict[str, str]:
        return {}

    async def close(self) -> None: ...


class Pve:
    """The API in this process, asked over real HTTP."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runner = asyncio.Runner()
        self.runtime = FakeRuntime()
        config = SandboxConfig(address="127.86.170.1", network="127.86.170.0/24")
        self.host = Host(config, StateFile(home / "state.json"), home / "pve", self.runtime)
        self.host.datastores.make_folders()
        seed_accounts(self.host.state, root_password=Secret("root-password"), token_id=TOKEN_ID, token=Secret(ADMIN))
        self.host.save()
        self.recorder = Recorder(home / "recordings")
        control = Control(self.host, self.recorder, Secret(CONTROL), lambda: True)
        self.token = f"{TOKEN_ID}={ADMIN}"
        self.client = self.runner.run(self._open(Api(self.host, self.recorder, control)))

    async def _open(self, api: Api) -> TestClient[Any, Any]:
        client = TestClient(TestServer(api.application()))
        await client.start_server()
        return client

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()

    def request(self, method: str, path: str, *, headers: Mapping[str, str], **options: Any) -> tuple[int, str, Any]:
        async def ask() -> tuple[int, str, Any]:
            async with self.client.request(method, path, headers=headers, **options) as response:
                is_json = response.content_type == "application/json"
                return response.status, response.reason or "", await (response.json() if is_json else response.text())

        return self.runner.run(ask())

    def call(self, method: str, path: str, /, token: str = "", **fields: Any) -> tuple[int, str, Any]:
        """Status, reason and body of a call; `_` in a field's name stands for `-`."""
        sent = [
            (name.replace("_", "-"), str(item))
            for name, value in fields.items()
            for item in (value if isinstance(value, list) else [value])
        ]
        where: dict[str, Any] = {"params": sent} if method == "GET" else {"data": sent}
        headers = {"Authorization": f"PVEAPIToken={token or self.token}"}
        return self.request(method, f"/api2/json{path}", headers=headers, **where)

    def ok(self, method: str, path: str, /, token: str = "", **fields: Any) -> Any:
        """The data of a call that must succeed; a task is waited for and must succeed too."""
        status, reason, body = self.call(method, path, token, **fields)
        assert status == 200, f"{method} {path}: {status} {reason} {body}"
        if isinstance(body["data"], str) and body["data"].startswith("UPID:"):
            assert self.task(body["data"]) == "OK"
        return body["data"]

    def fails(self, method: str, path: str, /, token: str = "", **fields: Any) -> tuple[int, str]:
        """Status and reason of a call that must be refused."""
        status, reason, _ = self.call(method, path, token, **fields)
        assert status >= 400, f"{method} {path} was not refused"
        return status, reason

    def problems(self, method: str, path: str, /, **fields: Any) -> dict[str, str]:
        """What a call with wrong parameters is told about each."""
        status, reason, body = self.call(method, path, **fields)
        assert (status, reason) == (400, "Parameter verification failed."), (status, reason, body)
        return dict(body["errors"])

    def task(self, upid: str) -> str:
        """How a task ended."""
        self.runner.run(self.host.tasks.wait(upid))
        return self.host.state.tasks[upid].exitstatus

    def ended(self, method: str, path: str, /, **fields: Any) -> str:
        """How the task of a call ended."""
        status, reason, body = self.call(method, path, **fields)
        assert status == 200, (status, reason)
        return self.task(body["data"])

    def control(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        status, _, answer = self.request(method, f"/_sandbox/{path}", headers={"X-Sandbox-Token": CONTROL}, json=body)
        return status, answer

    def vm(self, vmid: int = 201, **fields: Any) -> None:
        """Make a VM that could be started."""
        self.ok(
            "POST", "/nodes/pve/qemu", vmid=vmid, **{"name": f"vm{vmid}", "net0": "virtio,bridge=vmbr0", "agent": 1, **fields}
        )

    def user(self, name: str, **roles: str) -> str:
        """Make a user with `role=path` and a token with its rights; the token as it goes into the header."""
        self.ok("POST", "/access/users", userid=name)
        for role, path in roles.items():
            self.ok("PUT", "/access/acl", path=path, users=name, roles=role)
        return f"{name}!tk={self.ok('POST', f'/access/users/{name}/token/tk', privsep=0)['value']}"


@pytest.fixture
def pve(tmp_path: Path) -> Iterator[Pve]:
    running = Pve(tmp_path)
    yield running
    running.close()
