"""Calls to the guest agent, over the API: no network path into the guest is needed."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload
from urllib.parse import quote_plus

from labctl.adapters.proxmox import _parse
from labctl.adapters.proxmox._parse import ExecResult, Interface
from labctl.adapters.proxmox._session import Session
from labctl.adapters.proxmox.errors import AgentUnavailable, FileMissing, ProxmoxFailed, StillRunning
from labctl.model.errors import UserError
from labctl.model.secret import Secret

CONTENT_LIMIT = 60 * 1024
"""Characters of `content` that file-write takes (API viewer: maxLength 61440)."""
BODY_LIMIT = 64 * 1024
"""Bytes of a request that pveproxy reads; the content counts as it is sent, with %0A for a new line."""
INPUT_LIMIT = 64 * 1024
FIRST_POLL_S = 0.1
LAST_POLL_S = 2.0
WAIT_POLL_S = 1.0

Progress = Callable[[str], None]


class AgentCalls(ABC):
    """The guest agent's part of `Proxmox`."""

    _session: Session
    _sleep: Callable[[float], None]
    _clock: Callable[[], float]

    @abstractmethod
    def _guest_path(self, vmid: int, *rest: str) -> str:
        """The API path of a guest."""

    def _agent_path(self, vmid: int, call: str) -> str:
        return self._guest_path(vmid, "agent", call)

    def agent_ping(self, vmid: int) -> bool:
        """Whether the agent answers now.

        Raises:
            LabError: The API cannot be asked, the guest does not exist, or the agent is not configured for it.
        """
        try:
            self._session.ask(self._agent_path(vmid, "ping"))
        except AgentUnavailable as error:
            if "configured" in error.message:
                raise
            return False
        return True

    def agent_wait(self, vmid: int, timeout_s: float, progress: Progress | None = None) -> None:
        """Waits until the agent answers.

        Args:
            vmid: The guest.
            timeout_s: For how long, in seconds.
            progress: Gets one line every ten seconds of waiting.

        Raises:
            AgentUnavailable: It does not answer in time, or is not configured.
        """
        began = self._clock()
        told = 0
        while not self.agent_ping(vmid):
            waited = self._clock() - began
            if waited >= timeout_s:
                raise AgentUnavailable(
                    f"the agent of guest {vmid} does not answer after {timeout_s:g} s",
                    status=500,
                    where=self._session.endpoint,
                    hint=f"`qm status {vmid}` tells whether it runs; its console, whether it boots and has qemu-guest-agent.",
                )
            if progress and waited >= 10 * (told + 1):
                told = int(waited // 10)
                progress(f"guest {vmid}: waiting for its agent, {waited:.0f} s")
            self._sleep(min(WAIT_POLL_S, max(0.05, timeout_s - waited)))

    @overload
    def file_read(self, vmid: int, path: str, *, missing_ok: Literal[False] = False) -> bytes: ...
    @overload
    def file_read(self, vmid: int, path: str, *, missing_ok: bool) -> bytes | None: ...
    def file_read(self, vmid: int, path: str, *, missing_ok: bool = False) -> bytes | None:
        """The content of a file in the guest (at most 16 MiB); None where it is missing and `missing_ok`.

        Raises:
            FileMissing: There is no such file.
            ProxmoxFailed: It is larger, or the guest refuses it.
        """
        _absolute(path)
        try:
            answer = self._session.get(self._agent_path(vmid, "file-read"), file=path)
        except FileMissing:
            if missing_ok:
                return None
            raise

        def content(found: Mapping[str, Any]) -> tuple[bytes, bool]:
            return _parse.file_bytes(found["content"]), _parse.flag(found.get("truncated"))

        data, truncated = _parse.parsed(self._session.endpoint, "file-read", content, answer)
        if truncated:
            raise ProxmoxFailed(f"{path} in guest {vmid} is larger than the agent reads at once", status=200)
        return data

    def file_write(self, vmid: int, path: str, content: Secret | str | bytes, mode: int = 0o600) -> None:
        """Writes a file in the guest; its folder must exist.

        The agent makes files 0666, so the file is made empty with its mode first and filled afterwards. The content is in no
        argument list; in between, readers find an empty file.

        Args:
            vmid: The guest.
            path: Where, absolute.
            content: What; text goes as UTF-8.
            mode: Its permissions, as 0o600.

        Raises:
            UserError: The path is not absolute, or the content is too long (60 KiB of ASCII text, 45 KiB else; less when most
                of it must be escaped in a form).
            ProxmoxFailed: The guest refused it.
        """
        _absolute(path)
        text = content.reveal() if isinstance(content, Secret) else content
        fields = _content_fields(text if isinstance(text, bytes) else text.encode(), f"{path} for guest {vmid}")
        made = self.exec(vmid, ["install", "-m", f"{mode:04o}", "/dev/null", path])
        if made.exit_code != 0:
            raise ProxmoxFailed(
                f"guest {vmid} cannot make {path}: {made.err.strip() or made.out.strip() or f'exit code {made.exit_code}'}",
                status=200,
                hint="Its folder must be there; cloud-init makes it on the first boot: `cloud-init status --long` in the guest.",
            )
        self._session.post(self._agent_path(vmid, "file-write"), file=path, **fields)

    def exec(self, vmid: int, argv: Sequence[str], timeout_s: float = 60.0, input_data: Secret | str | None = None) -> ExecResult:
        """Runs a command in the guest, as root, and waits for its end. An exit code other than 0 is a result, not an error.

        Args:
            vmid: The guest.
            argv: The command and its arguments; others in the guest can see them, so nothing secret belongs there.
            timeout_s: For how long to wait for its end, in seconds. It goes on in the guest afterwards.
            input_data: Its standard input; ASCII, at most 64 KiB.

        Raises:
            UserError: Nothing to run, or an input that the API cannot carry.
            StillRunning: It did not end in time.
        """
        if not argv:
            raise UserError("there is no command to run")
        fields: dict[str, Any] = {"command": list(argv)}
        if input_data is not None:
            fields["input-data"] = _input_text(input_data)
        started = self._session.post(self._agent_path(vmid, "exec"), **fields)
        pid = _parse.parsed(self._session.endpoint, "exec", lambda found: int(found["pid"]), started)
        deadline, pause = self._clock() + timeout_s, FIRST_POLL_S
        while (result := self._exec_status(vmid, pid)) is None:
            if self._clock() >= deadline:
                raise StillRunning(
                    f"{argv[0]} in guest {vmid} has not ended after {timeout_s:g} s",
                    where=self._session.endpoint,
                    hint=f"It still runs there as process {pid}.",
                )
            self._sleep(pause)
            pause = min(pause * 1.5, LAST_POLL_S)
        return result

    def _exec_status(self, vmid: int, pid: int) -> ExecResult | None:
        answer = self._session.get(self._agent_path(vmid, "exec-status"), pid=pid)

        def result(found: Mapping[str, Any]) -> ExecResult | None:
            if not _parse.flag(found["exited"]):
                return None
            code = 128 + int(found["signal"]) if found.get("signal") else int(found["exitcode"])
            out, err = (_parse.agent_text(str(found.get(name) or "")) for name in ("out-data", "err-data"))
            return ExecResult(code, out, err)

        return _parse.parsed(self._session.endpoint, "exec-status", result, answer)

    def interfaces(self, vmid: int) -> tuple[Interface, ...]:
        """The guest's network interfaces, as it sees them."""
        answer = self._session.get(self._agent_path(vmid, "network-get-interfaces"))
        return _parse.parsed(self._session.endpoint, "network-get-interfaces", _parse.interfaces, answer)

    def addresses(self, vmid: int) -> tuple[str, ...]:
        """The guest's addresses, IPv4 first, without those of `lo` and without link-local ones."""
        found = [address for one in self.interfaces(vmid) if one.name != "lo" for address in one.addresses]
        usable = [address for address in found if not address.lower().startswith(("fe80:", "169.254."))]
        return tuple(sorted(usable, key=lambda address: ":" in address))

    def os_info(self, vmid: int) -> Mapping[str, str]:
        """What the guest says of its system: `id`, `name`, `version-id`, `pretty-name`, `kernel-release`, `machine`."""
        answer = self._session.get(self._agent_path(vmid, "get-osinfo"))
        return _parse.parsed(
            self._session.endpoint, "get-osinfo", lambda found: {str(k): str(v) for k, v in found["result"].items()}, answer
        )


def _absolute(path: str) -> None:
    if not path.startswith("/") or "\0" in path or "\n" in path:
        raise UserError(f"{path!r} is not an absolute path")


def _content_fields(data: bytes, what: str) -> dict[str, Any]:
    """The fields of file-write that carry `data` unchanged.

    PVE encodes `content` itself as base64, character by character, so that only ASCII survives; anything else goes as base64 with
    `encode=0` (qemu-server, `PVE/API2/Qemu/Agent.pm`).
    """
    fields: dict[str, Any] = (
        {"content": data.decode()} if data.isascii() else {"content": base64.b64encode(data).decode(), "encode": 0}
    )
    length, sent = len(fields["content"]), len(quote_plus(fields["content"]))
    if length > CONTENT_LIMIT or sent > BODY_LIMIT - 1024:
        raise UserError(
            f"{what} is too long for the guest agent: {len(data)} bytes",
            hint=f"The API takes {CONTENT_LIMIT} characters of ASCII text, or three quarters of that of anything else, at once.",
        )
    return fields


def _input_text(input_data: Secret | str) -> str:
    text = input_data.reveal() if isinstance(input_data, Secret) else input_data
    if not text.isascii() or len(text) > INPUT_LIMIT or len(quote_plus(text)) > BODY_LIMIT - 1024:
        raise UserError("the input of a command in a guest must be ASCII text of less than 64 KiB as it is sent")
    return text
