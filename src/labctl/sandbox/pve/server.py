"""The API over HTTPS: reads a request, finds who asks, checks parameters and permission, calls the route, says the answer."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import urllib.parse
from dataclasses import dataclass

from aiohttp import web

from labctl.sandbox.pve import (
    routes_access,
    routes_agent,
    routes_cluster,
    routes_firewall,
    routes_guest,
    routes_node,
    routes_roles,
    routes_storage,
)
from labctl.sandbox.pve.control import Control
from labctl.sandbox.pve.errors import ApiError
from labctl.sandbox.pve.faults import Fault
from labctl.sandbox.pve.host import Host
from labctl.sandbox.pve.recording import Recorder
from labctl.sandbox.pve.routing import Call, find
from labctl.sandbox.pve.schema import Arguments, verify

log = logging.getLogger(__name__)

SERVED = (routes_access, routes_agent, routes_cluster, routes_firewall, routes_guest, routes_node, routes_roles, routes_storage)
"""The modules whose import registers the routes."""

PREFIX = "/api2/json"
BODY_LIMIT = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, reason and JSON value of an answer."""

    status: int
    reason: str
    value: object


class Api:
    """The API as an aiohttp application.

    Args:
        host: The emulated hypervisor.
        recorder: Where requests are recorded when asked.
        control: What serves `/_sandbox/*`.
    """

    def __init__(self, host: Host, recorder: Recorder, control: Control) -> None:
        self._host = host
        self._recorder = recorder
        self._control = control

    def application(self) -> web.Application:
        """The application to serve."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = urllib.parse.unquote(request.rel_url.raw_path)
        if path.startswith("/_sandbox/"):
            return await self._control.handle(request, path.removeprefix("/_sandbox/"))
        if not path.startswith(f"{PREFIX}/"):
            return web.Response(
                status=200 if path == "/" else 404, text="labctl sandbox: an emulated Proxmox VE. Its API is under /api2/json.\n"
            )
        path = path.removeprefix(PREFIX).rstrip("/")
        fault = self._host.faults.for_request(request.method, path)
        if fault:
            response = await self._struck(request, fault)
            if response is not None:
                return response
        answer = await self._answer(request, path)
        if fault and fault.drop == "after":
            return _drop(request)
        return _response(answer)

    async def _struck(self, request: web.Request, fault: Fault) -> web.StreamResponse | None:
        await asyncio.sleep(fault.delay_s)
        if fault.drop == "before":
            return _drop(request)
        if fault.body:
            return web.Response(
                status=fault.status or 502, reason=fault.message or None, text=fault.body, content_type="text/html"
            )
        if fault.status:
            return _response(_refusal(ApiError(fault.status, fault.message or "injected fault")))
        return None

    async def _answer(self, request: web.Request, path: str) -> Answer:
        arguments: Arguments = {}
        try:
            arguments = _arguments(request, await request.read())
            answer = Answer(200, "OK", {"data": await self._serve(request, path, dict(arguments))})
        except ApiError as error:
            answer = _refusal(error)
        except Exception as error:  # a defect of the emulator must be an answer too
            log.exception("%s %s", request.method, path)
            answer = _refusal(ApiError(500, f"sandbox defect: {type(error).__name__}: {error}"))
        self._recorder.write(request.method, path, arguments, answer.status, answer.reason, answer.value)
        return answer

    async def _serve(self, request: web.Request, path: str, arguments: Arguments) -> object:
        writes = request.method not in {"GET", "HEAD"}
        try:
            route, in_path = find(request.method, path)
        except ApiError:
            self._host.unserved.append(f"{request.method} {path}")
            raise
        caller = ""
        if not route.public:
            caller = self._host.sessions.caller(
                self._host.state,
                authorization=request.headers.get("Authorization", ""),
                cookie=urllib.parse.unquote(request.cookies.get("PVEAuthCookie", "")),
                csrf=request.headers.get("CSRFPreventionToken", ""),
                writes=writes,
            )
        arguments.update(in_path)
        problems = verify(route.params, arguments)
        if problems:
            raise ApiError(400, "Parameter verification failed.", problems)
        call = Call(self._host, caller, arguments)
        if "node" in in_path:
            self._reach(call, path)
        if route.check:
            route.check(call)
        result = route.handler(call)
        if inspect.isawaitable(result):
            result = await result
        if writes:
            self._host.save()
        return result

    def _reach(self, call: Call, path: str) -> None:
        """Stop where a node is not there or off, or where a guest of the path is on another one."""
        host, node = self._host, call.node
        if node != host.node and node not in host.state.nodes:
            raise ApiError(
                500, f"hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known"
            )
        if not host.online(node):
            raise ApiError(595, "No route to host")
        guest = host.state.guests.get(call.text("vmid"))
        kind = path.split("/")[3:4]
        if guest is not None and kind == [guest.kind] and host.node_of(guest) != node:
            raise host.no_guest(guest.vmid, guest.kind, node)


def _arguments(request: web.Request, body: bytes) -> Arguments:
    pairs = list(request.query.items())
    found: Arguments = {}
    if body and request.content_type == "application/json":
        try:
            document = json.loads(body)
        except ValueError as error:
            raise ApiError(400, f"invalid JSON: {error}") from error
        for name, value in document.items() if isinstance(document, dict) else ():
            found[name] = [_as_text(item) for item in value] if isinstance(value, list) else _as_text(value)
    elif body:
        try:
            pairs += urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=False)
        except UnicodeDecodeError as error:
            raise ApiError(400, "request body is not UTF-8") from error
    for name, value in pairs:
        before = found.get(name)
        found[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return found


def _as_text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else "" if value is None else str(value)


def _refusal(error: ApiError) -> Answer:
    value: dict[str, object] = {"data": None, "message": f"{error.message}\n"}
    if error.errors:
        value["errors"] = error.errors
    return Answer(error.status, " ".join(error.message.split()), value)


def _response(answer: Answer) -> web.Response:
    return web.json_response(answer.value, status=answer.status, reason=answer.reason)


def _drop(request: web.Request) -> web.StreamResponse:
    if request.transport:
        request.transport.abort()
    return web.Response(status=500)
