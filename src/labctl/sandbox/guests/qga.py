"""A client of the real QEMU guest agent behind a unix socket, with the answers in the shape of PVE's API.

What qemu-ga speaks: qemu.org, "QEMU Guest Agent Protocol Reference". What PVE makes of it: qemu-server, `PVE/API2/Qemu/Agent.pm`
and `PVE/QemuServer/Agent.pm`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from labctl.sandbox.guests.runtime import AGENT_READERS, READ_LIMIT, AgentError, content_to_write, read_answer

NOT_RUNNING = "guest agent is not running"
SYNC_TIMEOUT_S = 3.0
"""PVE gives a ping as much before it calls the agent down."""
CALL_TIMEOUT_S = 10.0
FILE_TIMEOUT_S = 30.0
CHUNK = 2**20
LINE_LIMIT = 8 * 2**20

_SAME = {*AGENT_READERS, "ping"}


class Agent:
    """The agent of one guest. It serves one connection at a time, so each call is a connection of its own, one after another.

    Args:
        socket: Where it listens.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._lock = asyncio.Lock()

    async def answer(self, command: str, arguments: Mapping[str, str | list[str]]) -> object:
        """Answer a call as PVE's API would.

        Raises:
            AgentError: It does not answer, or refuses.
        """
        match command:
            case "exec":
                return await self._exec(arguments)
            case "exec-status":
                return _exec_status(await self.call("guest-exec-status", pid=int(str(arguments["pid"]))))
            case "file-read":
                return await self._file_read(str(arguments["file"]))
            case "file-write":
                await self._file_write(arguments)
                return None
        if command not in _SAME:
            raise AgentError(f"The command guest-{command} has not been found")
        return _plain(await self.call(f"guest-{command}"))

    async def call(self, command: str, **arguments: object) -> Any:
        """One command, and its answer.

        Raises:
            AgentError: It does not answer, or refuses.
        """
        async with self._lock, _Connection(self._socket) as connection:
            return await connection.ask(command, arguments, CALL_TIMEOUT_S)

    async def run(self, *command: str, timeout_s: float) -> tuple[int, str]:
        """Run a program to its end; exit code and output.

        Raises:
            AgentError: It does not answer, refuses, or the program does not end in time.
        """
        started = await self._exec({"command": list(command)})
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    status = await self.answer("exec-status", {"pid": str(started["pid"])})
                    assert isinstance(status, dict)
                    if status["exited"]:
                        return int(status.get("exitcode", 255)), str(status.get("out-data", ""))
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise AgentError(f"{command[0]} did not end within {timeout_s:g} s") from error

    async def _exec(self, arguments: Mapping[str, str | list[str]]) -> dict[str, int]:
        given = arguments["command"]
        path, *rest = given if isinstance(given, list) else [given]
        call: dict[str, object] = {"path": path, "arg": rest, "capture-output": True}
        if "input-data" in arguments:
            call["input-data"] = base64.b64encode(str(arguments["input-data"]).encode("utf-8")).decode()
        started = await self.call("guest-exec", **call)
        return {"pid": int(started["pid"])}

    async def _file_read(self, path: str) -> dict[str, object]:
        content = bytearray()
        async with self._lock, _Connection(self._socket) as connection:
            handle = await connection.ask("guest-file-open", {"path": path, "mode": "r"}, CALL_TIMEOUT_S)
            try:
                ended = False
                while not ended and len(content) <= READ_LIMIT:
                    part = await connection.ask("guest-file-read", {"handle": handle, "count": CHUNK}, FILE_TIMEOUT_S)
                    content += base64.b64decode(part.get("buf-b64", ""))
                    ended = bool(part.get("eof")) or not part.get("count")
            finally:
                await connection.ask("guest-file-close", {"handle": handle}, CALL_TIMEOUT_S)
        return read_answer(bytes(content))

    async def _file_write(self, arguments: Mapping[str, str | list[str]]) -> None:
        path, content = str(arguments["file"]), content_to_write(arguments)
        async with self._lock, _Connection(self._socket) as connection:
            handle = await connection.ask("guest-file-open", {"path": path, "mode": "wb"}, CALL_TIMEOUT_S)
            try:
                data = base64.b64encode(content).decode()
                await connection.ask("guest-file-write", {"handle": handle, "buf-b64": data}, FILE_TIMEOUT_S)
            finally:
                await connection.ask("guest-file-close", {"handle": handle}, CALL_TIMEOUT_S)


class _Connection:
    """A connection that is in step with the agent: what an earlier client left unread is skipped."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(SYNC_TIMEOUT_S):
                self._reader, self._writer = await asyncio.open_unix_connection(self._socket, limit=LINE_LIMIT)
                try:
                    await self._sync()
                except BaseException:
                    self._writer.close()
                    raise
        except (OSError, TimeoutError, EOFError) as error:
            raise AgentError(NOT_RUNNING) from error
        return self

    async def __aexit__(self, *_ended: object) -> None:
        self._writer.close()

    async def _sync(self) -> None:
        number = secrets.randbelow(2**31)
        self._send("guest-sync-delimited", {"id": number}, before=b"\xff")
        while True:
            # The agent puts a byte 0xFF before its answer, which no JSON has.
            await self._reader.readuntil(b"\xff")
            if json.loads(await self._reader.readline()).get("return") == number:
                return

    def _send(self, command: str, arguments: Mapping[str, object], before: bytes = b"") -> None:
        request = {"execute": command, **({"arguments": dict(arguments)} if arguments else {})}
        self._writer.write(before + json.dumps(request).encode() + b"\n")

    async def ask(self, command: str, arguments: Mapping[str, object], timeout_s: float) -> Any:
        """One command on this connection, and its answer.

        Raises:
            AgentError: It does not answer, or refuses.
        """
        try:
            async with asyncio.timeout(timeout_s):
                self._send(command, arguments)
                line = await self._reader.readline()
                answer = json.loads(line) if line else {}
        except (OSError, TimeoutError, ValueError) as error:
            raise AgentError(NOT_RUNNING) from error
        if "error" in answer:
            raise AgentError(str(answer["error"].get("desc", answer["error"])))
        if "return" not in answer:
            raise AgentError(NOT_RUNNING)
        return answer["return"]


def _exec_status(found: Mapping[str, Any]) -> dict[str, object]:
    answer: dict[str, object] = {}
    for key, value in found.items():
        if key in {"out-data", "err-data"}:
            answer[key] = base64.b64decode(value).decode("latin-1")
        else:
            answer[key] = int(value)
    return answer


def _plain(value: object) -> object:
    """As PVE shows it: truth values are numbers."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
