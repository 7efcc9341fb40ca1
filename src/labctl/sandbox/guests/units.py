"""Units of a guest: a process with a condition, restarted when it fails, in the manner of systemd.service(5)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from labctl.model.errors import LabError
from labctl.sandbox.guests.files import GuestFiles, unit_log
from labctl.sandbox.guests.processes import Child, Children

log = logging.getLogger(__name__)

RESTART_DELAY_S = 0.5
READY_TIMEOUT_S = 60.0
START_LIMIT, START_LIMIT_INTERVAL_S = 5, 30.0


class Unit(Protocol):
    """What `systemctl` works on."""

    @property
    def state(self) -> str:
        """active, activating, inactive or failed."""

    async def start(self) -> str:
        """Start it, if its condition holds; what went wrong, "" for nothing."""

    async def stop(self) -> None:
        """Stop it."""

    async def restart(self) -> str:
        """Stop it and start it again."""

    def reload(self) -> str:
        """Make it read its files again; what went wrong, "" for nothing."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a service unit runs.

    Attributes:
        name: The unit.
        command: Gives the argument list; called before each start, writes the configuration that it needs.
        needs: Files of the guest without which it does not start (ConditionPathExists).
        folder: Its working directory in the guest.
        stop_grace_s: How long it gets to end by itself.
        ready: Files of the guest that it makes; it is active once they are there (ExecStartPost).
        spent: Files of the guest that are removed when it has ended (ExecStopPost).
        restarts: Whether it is started again when it fails (Restart=on-failure).
    """

    name: str
    command: Callable[[], list[str]]
    needs: tuple[str, ...]
    folder: str
    stop_grace_s: float = 10.0
    ready: tuple[str, ...] = ()
    spent: tuple[str, ...] = ()
    restarts: bool = True


class ServiceUnit:
    """Runs a service.

    Args:
        service: What to run.
        files: The guest's files.
        children: Where processes are started and written down.
    """

    def __init__(self, service: Service, files: GuestFiles, children: Children) -> None:
        self.service = service
        self._files = files
        self._children = children
        self._child: Child | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._starts: deque[float] = deque(maxlen=START_LIMIT)
        self._state = "inactive"

    @property
    def state(self) -> str:
        """active, activating, inactive or failed."""
        return self._state

    async def start(self) -> str:
        """Start it, if what it needs is there and it does not run yet."""
        if self._state in {"active", "activating"}:
            return ""
        if not all(self._files.exists(path) for path in self.service.needs):
            return ""
        self._starts.clear()
        return await self._spawn() or await self._wait_ready()

    async def stop(self, grace_s: float | None = None) -> None:
        """End it: SIGTERM, a while, SIGKILL."""
        if self._watcher:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        child, self._child, self._watcher, self._state = self._child, None, None, "inactive"
        if child:
            await self._children.end(
                child, self.service.stop_grace_s if grace_s is None else min(grace_s, self.service.stop_grace_s)
            )
        self._forget_spent()

    async def restart(self) -> str:
        """Stop it and start it again."""
        await self.stop()
        return await self.start()

    def reload(self) -> str:
        """Send SIGHUP: OpenBao then reads its certificate again."""
        if self._child is None:
            return f"{self.service.name} is not active, cannot reload."
        self._child.process.send_signal(signal.SIGHUP)
        return ""

    async def _spawn(self) -> str:
        self._starts.append(time.monotonic())
        self._files.make_folder(self.service.folder, 0o700, parents=True)
        folder = self._files.host_path(self.service.folder)
        log_file = self._files.host_path(unit_log(self.service.name))
        try:
            self._child = await self._children.start(self.service.command(), folder, log_file)
        except (OSError, LabError) as error:
            self._state = "failed"
            return f"Failed to start {self.service.name}: {error}"
        self._state = "activating" if self.service.ready else "active"
        self._watcher = asyncio.get_running_loop().create_task(self._watch(self._child))
        return ""

    async def _wait_ready(self) -> str:
        """Wait for what it makes; what went wrong, "" for nothing."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not all(self._files.exists(path) for path in self.service.ready):
            if self._child is None:
                return f"Job for {self.service.name} failed because the control process exited with error code."
            if time.monotonic() > deadline:
                await self.stop()
                self._state = "failed"
                return f"Job for {self.service.name} failed because a timeout was exceeded."
            await asyncio.sleep(0.05)
        if self._state == "activating" and self._child is not None:
            self._state = "active"
        return ""

    def _forget_spent(self) -> None:
        for path in self.service.spent:
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(path)

    async def _watch(self, child: Child) -> None:
        code = await child.process.wait()
        self._children.forget(child)
        self._child = None
        self._forget_spent()
        if code == 0:
            self._state = "inactive"
            return
        log.warning("%s ended with %s", self.service.name, code)
        recent = [start for start in self._starts if time.monotonic() - start < START_LIMIT_INTERVAL_S]
        if len(recent) >= START_LIMIT or not self.service.restarts:
            self._state = "failed"
            return
        self._state = "activating"
        await asyncio.sleep(RESTART_DELAY_S)
        await self._spawn()


class OneShot:
    """A unit that does one thing when it is started.

    Args:
        action: The thing.
    """

    def __init__(self, action: Callable[[], Awaitable[str]]) -> None:
        self._action = action
        self._state = "inactive"

    @property
    def state(self) -> str:
        """inactive, or failed where the last start went wrong."""
        return self._state

    async def start(self) -> str:
        """Do it."""
        problem = await self._action()
        self._state = "failed" if problem else "inactive"
        return problem

    async def stop(self) -> None:
        """Nothing runs."""

    async def restart(self) -> str:
        """Do it again."""
        return await self.start()

    def reload(self) -> str:
        """Cannot be reloaded."""
        return "Job type reload is not applicable."
