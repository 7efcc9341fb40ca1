"""`/nodes/{node}/qemu/{vmid}/agent`: the guest agent, answered by what really runs behind the guest."""

from __future__ import annotations

from labctl.sandbox.guests.runtime import AGENT_READERS, AgentError
from labctl.sandbox.pve import power
from labctl.sandbox.pve.errors import ApiError
from labctl.sandbox.pve.routes_guest import agent_enabled
from labctl.sandbox.pve.routing import Call, perm, route
from labctl.sandbox.pve.schema import BOOL, INT, TEXT, VMID, Param
from labctl.sandbox.pve.state import Guest, Task

_ONE = {"vmid": VMID.must()}
_WRITE_LIMIT = 60 * 1024


async def _ask(call: Call, command: str) -> object:
    guest = _reachable(call)
    try:
        return await call.host.runtime.agent(guest.vmid, command, call.args)
    except AgentError as error:
        raise ApiError(500, f"Agent error: {error}") from error


def _reachable(call: Call) -> Guest:
    guest = call.host.guest(call.text("vmid"), "qemu")
    if not agent_enabled(guest):
        raise ApiError(500, "No QEMU guest agent configured")
    if not guest.running:
        raise ApiError(500, f"VM {guest.vmid} is not running")
    return guest


def _audit(method: str, command: str) -> None:
    async def handler(call: Call) -> object:
        return {"result": await _ask(call, command)}

    check = perm("/vms/{vmid}", "VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", any_of=True)
    route(method, f"/nodes/{{node}}/qemu/{{vmid}}/agent/{command}", _ONE, check=check)(handler)


for _command in AGENT_READERS:
    _audit("GET", _command)
_audit("POST", "ping")

_UNRESTRICTED = perm("/vms/{vmid}", "VM.GuestAgent.Unrestricted")


@route(
    "POST",
    "/nodes/{node}/qemu/{vmid}/agent/exec",
    {**_ONE, "command": Param(many=True, required=True), "input-data": Param(max_length=65536)},
    check=_UNRESTRICTED,
)
async def execute(call: Call) -> object:
    """Start a command in the guest; answers with its pid there."""
    return await _ask(call, "exec")


@route("GET", "/nodes/{node}/qemu/{vmid}/agent/exec-status", {**_ONE, "pid": INT.must()}, check=_UNRESTRICTED)
async def execute_status(call: Call) -> object:
    """Whether a command in the guest has ended, and what it said."""
    return await _ask(call, "exec-status")


@route(
    "GET",
    "/nodes/{node}/qemu/{vmid}/agent/file-read",
    {**_ONE, "file": TEXT.must()},
    check=perm("/vms/{vmid}", "VM.GuestAgent.FileRead", "VM.GuestAgent.Unrestricted", any_of=True),
)
async def file_read(call: Call) -> object:
    """The content of a file in the guest."""
    return await _ask(call, "file-read")


@route(
    "POST",
    "/nodes/{node}/qemu/{vmid}/agent/file-write",
    {**_ONE, "file": TEXT.must(), "content": Param(max_length=_WRITE_LIMIT, required=True), "encode": BOOL},
    check=perm("/vms/{vmid}", "VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted", any_of=True),
)
async def file_write(call: Call) -> None:
    """Write a file in the guest."""
    await _ask(call, "file-write")


@route("POST", "/nodes/{node}/qemu/{vmid}/agent/shutdown", _ONE, check=perm("/vms/{vmid}", "VM.PowerMgmt"))
async def shutdown(call: Call) -> object:
    """Shut the guest down from inside."""
    guest, host = _reachable(call), call.host

    async def body(task: Task) -> None:
        await power.stop(host, guest, task, grace_s=power.SHUTDOWN_GRACE_S)

    host.tasks.start("qmshutdown", guest.vmid, call.caller, body)
    return {"result": None}
