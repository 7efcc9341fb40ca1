"""The appliance runtime: a guest's role runs as real processes on a loopback address of its own, without containers.

A guest without such a role has files and an agent, and no process behind it.
"""

from __future__ import annotations

import asyncio
import itertools
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from labctl.model.guestfiles import ROLES
from labctl.sandbox.guests.commands import COMMANDS, Context, run
from labctl.sandbox.guests.files import GuestFiles
from labctl.sandbox.guests.identity import first_boot
from labctl.sandbox.guests.processes import Children
from labctl.sandbox.guests.roles import UNITS_OF_ROLE
from labctl.sandbox.guests.runtime import READ_LIMIT, AgentError, GuestError, GuestSpec, Say, content_to_write, read_answer
from labctl.sandbox.guests.systemctl import Result
from labctl.sandbox.guests.units import ServiceUnit, Unit


@dataclass(slots=True)
class _Running:
    """A guest that runs."""

    context: Context
    units: dict[str, Unit]
    executions: dict[int, asyncio.Task[Result]] = field(default_factory=dict)
    pids: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))


class ApplianceRuntime:
    """Runs guests as appliances.

    Args:
        disks: The folder of the guests' disks.
        run_folder: A private folder on a tmpfs, for each guest's `/run`.
        children: Where processes are started.
    """

    def __init__(self, disks: Path, run_folder: Path, children: Children) -> None:
        self._disks = disks
        self._run_folder = run_folder
        self._children = children
        self._running: dict[int, _Running] = {}

    def _files(self, vmid: int) -> GuestFiles:
        return GuestFiles(self._disks / str(vmid) / "root", self._run_folder / str(vmid))

    async def open(self, ended: Callable[[int], None]) -> None:
        """Nothing is left running by an earlier sandbox, and no guest switches itself off."""

    async def start(self, spec: GuestSpec, say: Say) -> None:
        """Boot a guest: make what the first boot makes, then start the units whose condition holds.

        Raises:
            GuestError: Its address cannot be used, or its disk cannot be written.
        """
        files = self._files(spec.vmid)
        role = ROLES.get(spec.role)
        make_units = UNITS_OF_ROLE.get(spec.role)
        if make_units and not ip_address(spec.address).is_loopback:
            raise GuestError(
                f"address {spec.address} is not a loopback address: in the sandbox a {spec.role} runs on this machine itself"
            )
        try:
            files.make()
            first_boot(spec, role, files)
        except OSError as error:
            raise GuestError(f"guest disk: {error.strerror}: {error.filename}") from error
        units = make_units(spec, files, self._children) if make_units else {}
        self._running[spec.vmid] = _Running(Context(spec, files, units), units)
        say(f"sandbox: guest {spec.name} has {spec.address}" + (f", role {spec.role}" if spec.role else ", no role"))
        for name, unit in units.items():
            if isinstance(unit, ServiceUnit):
                problem = await unit.start()
                say(f"sandbox: {name} {problem or unit.state}")

    async def stop(self, vmid: int, say: Say, *, grace_s: float) -> None:
        """End a guest's processes and empty its `/run`."""
        guest = self._running.pop(vmid, None)
        if guest is None:
            return
        for execution in guest.executions.values():
            execution.cancel()
        for name, unit in guest.units.items():
            if isinstance(unit, ServiceUnit):
                await unit.stop(grace_s)
                say(f"sandbox: {name} stopped")
        guest.context.files.empty_run()

    async def delete(self, vmid: int) -> None:
        """Remove a guest's disk."""
        files = self._files(vmid)
        files.remove_all()
        if files.root.parent.is_dir():
            files.root.parent.rmdir()

    async def services(self, vmid: int) -> dict[str, str]:
        """The service units of a guest and their states."""
        guest = self._running.get(vmid)
        return {name: unit.state for name, unit in guest.units.items() if isinstance(unit, ServiceUnit)} if guest else {}

    async def close(self) -> None:
        """End every guest, all at the same time."""
        await asyncio.gather(*(self.stop(vmid, lambda _: None, grace_s=10.0) for vmid in list(self._running)))

    async def agent(self, vmid: int, command: str, arguments: Mapping[str, str | list[str]]) -> object:
        """Answer a call of the guest agent.

        Raises:
            AgentError: The agent refuses.
        """
        guest = self._running.get(vmid)
        if guest is None:
            raise AgentError("guest agent is not running")
        match command:
            case "exec":
                return self._exec(guest, arguments)
            case "exec-status":
                return _exec_status(guest, int(str(arguments["pid"])))
            case "file-read":
                return _file_read(guest.context.files, str(arguments["file"]))
            case "file-write":
                _file_write(guest.context.files, arguments)
                return None
        answers = _facts(guest.context.spec)
        if command not in answers:
            raise AgentError(f"The command guest-{command} has not been found")
        return answers[command]

    def _exec(self, guest: _Running, arguments: Mapping[str, str | list[str]]) -> dict[str, int]:
        given = arguments["command"]
        name, *rest = given if isinstance(given, list) else [given]
        program = name.rsplit("/", 1)[-1]
        if program not in COMMANDS:
            raise AgentError(
                f"Guest agent command failed, error was 'Failed to execute child process \"{name}\" (No such file or directory)' "
                f"(a guest of the sandbox knows: {', '.join(COMMANDS)})"
            )
        pid = next(guest.pids)
        guest.executions[pid] = asyncio.get_running_loop().create_task(run(guest.context, program, rest))
        return {"pid": pid}


def _exec_status(guest: _Running, pid: int) -> dict[str, object]:
    execution = guest.executions.get(pid)
    if execution is None:
        raise AgentError(f"PID {pid} does not exist")
    if not execution.done():
        return {"exited": 0}
    # qemu-ga forgets a process once its end was asked for.
    del guest.executions[pid]
    result = execution.result()
    answer: dict[str, object] = {"exited": 1, "exitcode": result.code}
    if result.out:
        answer["out-data"] = result.out
    if result.err:
        answer["err-data"] = result.err
    return answer


def _file_read(files: GuestFiles, path: str) -> dict[str, object]:
    try:
        content = files.read(path, READ_LIMIT + 1)
    except OSError as error:
        raise AgentError(f"failed to open file '{path}' (mode: 'r'): {error.strerror}") from error
    return read_answer(content)


def _file_write(files: GuestFiles, arguments: Mapping[str, str | list[str]]) -> None:
    path, content = str(arguments["file"]), content_to_write(arguments)
    try:
        files.write(path, content)
    except OSError as error:
        raise AgentError(f"failed to open file '{path}' (mode: 'wb'): {error.strerror}") from error


def _facts(spec: GuestSpec) -> dict[str, object]:
    """What the agent says of itself, by command."""
    loopback = {"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}
    own = {"ip-address": spec.address, "ip-address-type": "ipv4", "prefix": spec.prefix}
    return {
        "ping": {},
        "info": {"version": "10.0.2", "supported_commands": []},
        "get-host-name": {"host-name": spec.name},
        "get-time": time.time_ns(),
        "get-timezone": {"offset": 0, "zone": "UTC"},
        "get-users": [],
        "get-fsinfo": [],
        "get-vcpus": [],
        "get-osinfo": {
            "id": "debian",
            "name": "Debian GNU/Linux",
            "pretty-name": "Debian GNU/Linux 13 (trixie)",
            "version": "13 (trixie)",
            "version-id": "13",
            "machine": platform.machine(),
            "kernel-release": "6.12.0-sandbox",
            "kernel-version": "labctl sandbox",
        },
        "network-get-interfaces": [
            {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [loopback]},
            {"name": "eth0", "hardware-address": spec.mac.lower(), "ip-addresses": [own]},
        ],
    }
