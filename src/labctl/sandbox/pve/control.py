"""The control address `/_sandbox/*`, for tests and for labctl: faults, locks, tickets, unserved calls, state, recordings."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from labctl.model.secret import Secret
from labctl.sandbox.pve.errors import ApiError, invalid
from labctl.sandbox.pve.faults import parse_fault
from labctl.sandbox.pve.host import Host
from labctl.sandbox.pve.recording import Recorder
from labctl.sandbox.pve.state import Guest, to_json
from labctl.sandbox.settings import GuestInfo


class Control:
    """Serves the control address.

    Args:
        host: The emulated hypervisor.
        recorder: What records requests.
        token: What `X-Sandbox-Token` must carry.
        booted: Whether the guests that start by themselves have been started.
    """

    def __init__(self, host: Host, recorder: Recorder, token: Secret, booted: Callable[[], bool]) -> None:
        self._host = host
        self._recorder = recorder
        self._token = token
        self._booted = booted

    async def handle(self, request: web.Request, path: str) -> web.Response:
        """Answer a request; `path` is what follows `/_sandbox/`."""
        if not hmac.compare_digest(request.headers.get("X-Sandbox-Token", "").encode(), self._token.reveal().encode()):
            return web.json_response({"message": "X-Sandbox-Token is missing or wrong"}, status=403)
        try:
            raw = await request.read()
            body = json.loads(raw) if raw else {}
            value = self._serve(request.method, path.rstrip("/"), body)
            if isinstance(value, Awaitable):
                value = await value
        except ValueError as error:
            return web.json_response({"message": f"invalid JSON: {error}"}, status=400)
        except ApiError as error:
            return web.json_response({"message": error.message, "errors": error.errors}, status=error.status)
        return web.json_response(value)

    async def _status(self) -> object:
        return {"booted": self._booted(), "guests": [asdict(guest) for guest in await guest_infos(self._host)]}

    def _serve(self, method: str, path: str, body: dict[str, Any]) -> object:
        if lock := re.fullmatch(r"guests/(\d+)/lock", path):
            return self._lock(method, lock[1], body)
        if (pending := re.fullmatch(r"guests/(\d+)/pending", path)) and method == "POST":
            return self._pending(pending[1], body)
        if (moved := re.fullmatch(r"guests/(\d+)/node", path)) and method == "POST":
            return self._move(moved[1], str(body.get("node", "")))
        if node := re.fullmatch(r"nodes/([\w-]{1,63})", path):
            return self._node(method, node[1], body)
        host = self._host
        calls: dict[tuple[str, str], Callable[[], object]] = {
            ("GET", "status"): self._status,
            ("GET", "state"): lambda: to_json(host.state),
            ("GET", "unserved"): lambda: host.unserved,
            ("DELETE", "unserved"): host.unserved.clear,
            ("POST", "expire-tickets"): host.sessions.expire_all,
            ("GET", "faults"): host.faults.listed,
            ("POST", "faults"): lambda: host.faults.add(parse_fault(body)),
            ("DELETE", "faults"): host.faults.clear,
            ("GET", "recording"): lambda: {"file": _text(self._recorder.path)},
            ("POST", "recording"): lambda: self._record(body),
            ("DELETE", "recording"): lambda: {"file": _text(self._recorder.stop())},
        }
        if (method, path) not in calls:
            raise ApiError(404, f"no such control: {method} {path}")
        answer = calls[method, path]()
        return {} if answer is None else answer

    def _record(self, body: dict[str, Any]) -> object:
        name = str(body.get("name", "requests"))
        if not re.fullmatch(r"[\w-]{1,64}", name):
            raise invalid(name="letters, digits, - and _ only")
        return {"file": str(self._recorder.start(name))}

    def _guest(self, vmid: str) -> Guest:
        guest = self._host.state.guests.get(vmid)
        if guest is None:
            raise ApiError(404, f"no guest {vmid}")
        return guest

    def _pending(self, vmid: str, body: dict[str, Any]) -> object:
        """Changes options of a guest, or drops those that are null, so that the change waits for the guest's next start."""
        guest = self._guest(vmid)
        for name, value in body.items():
            guest.effective.setdefault(name, guest.config.get(name))
            guest.config.pop(name, None)
            if value is not None:
                guest.config[name] = value if isinstance(value, int) else str(value)
        self._host.save()
        return {"vmid": guest.vmid, "pending": sorted(guest.effective)}

    def _move(self, vmid: str, node: str) -> object:
        """Puts a guest on another node, as a migration does; what runs behind it goes on."""
        host, guest = self._host, self._guest(vmid)
        if node != host.node and node not in host.state.nodes:
            raise ApiError(404, f"no node {node}")
        guest.node = "" if node == host.node else node
        host.save()
        return {"vmid": guest.vmid, "node": host.node_of(guest)}

    def _node(self, method: str, name: str, body: dict[str, Any]) -> object:
        """A further node of the cluster: there, switched off, or gone again with all of its guests back on the emulated one."""
        host = self._host
        if name == host.node:
            raise ApiError(400, f"{name} is the node that answers here")
        if method == "DELETE":
            host.state.nodes.pop(name, None)
            for guest in host.state.guests.values():
                guest.node = "" if guest.node == name else guest.node
        else:
            host.state.nodes[name] = bool(body.get("online", True))
        host.save()
        return dict(host.state.nodes)

    def _lock(self, method: str, vmid: str, body: dict[str, Any]) -> object:
        guest = self._guest(vmid)
        guest.lock = str(body.get("lock", "backup")) if method == "POST" else ""
        self._host.save()
        return {"vmid": guest.vmid, "lock": guest.lock}


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


async def guest_infos(host: Host) -> list[GuestInfo]:
    """Every guest in short."""
    guests = sorted(host.state.guests.values(), key=lambda one: one.vmid)
    services = await asyncio.gather(*(host.runtime.services(guest.vmid) for guest in guests))
    return [
        GuestInfo(guest.vmid, guest.name, host.role_of(guest), guest.status, host.address_of(guest)[0], tuple(units.items()))
        for guest, units in zip(guests, services, strict=True)
    ]
