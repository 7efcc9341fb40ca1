"""Workers of the hypervisor: each has a UPID, a log and an end."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable

from labctl.sandbox.pve.errors import ApiError, TaskError
from labctl.sandbox.pve.faults import Faults
from labctl.sandbox.pve.state import State, Task

log = logging.getLogger(__name__)
Body = Callable[[Task], Awaitable[None] | None]


class Tasks:
    """Starts workers and keeps what they said.

    Args:
        state: Where they are kept.
        node: The node's name, part of each UPID.
        faults: What may make one fail.
        save: Called when one has ended.
    """

    def __init__(self, state: State, node: str, faults: Faults, save: Callable[[], None]) -> None:
        self._state = state
        self._node = node
        self._faults = faults
        self._save = save
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, kind: str, ident: object, user: str, body: Body, *, undo: Callable[[], None] | None = None) -> str:
        """Start a worker and return its UPID.

        Args:
            kind: PVE's name for it, such as `qmstart`.
            ident: What it works on.
            user: Who asked for it.
            body: The work; a `TaskError` or `ApiError` becomes its exit status.
            undo: Called when a fault makes the worker fail before its work.
        """
        state = self._state
        state.next_pid += 1
        now = int(time.time())
        upid = f"UPID:{self._node}:{state.next_pid:08X}:{state.next_pid * 7:08X}:{now:08X}:{kind}:{ident}:{user}:"
        task = Task(upid, self._node, state.next_pid, state.next_pid * 7, now, kind, str(ident), user)
        state.tasks[upid] = task
        worker = asyncio.get_running_loop().create_task(self._run(task, body, undo))
        self._running[upid] = worker
        worker.add_done_callback(lambda _: self._running.pop(upid, None))
        return upid

    async def wait(self, upid: str) -> None:
        """Wait for the end of a worker."""
        if upid in self._running:
            await asyncio.wait([self._running[upid]])

    async def _run(self, task: Task, body: Body, undo: Callable[[], None] | None) -> None:
        try:
            await self._strike(task, undo)
            result = body(task)
            if inspect.isawaitable(result):
                await result
            task.exitstatus = "OK"
            task.log.append("TASK OK")
        except (TaskError, ApiError) as error:
            _fail(task, str(error))
        except asyncio.CancelledError:
            _fail(task, "interrupted by signal")
            raise
        except Exception as error:  # a worker that dies must still end, with its reason in its log
            log.exception("task %s", task.upid)
            _fail(task, f"{type(error).__name__}: {error}")
        finally:
            task.status, task.endtime = "stopped", int(time.time())
            self._save()

    async def _strike(self, task: Task, undo: Callable[[], None] | None) -> None:
        if fault := self._faults.for_task(task.type):
            await asyncio.sleep(fault.delay_s)
            if fault.message:
                if undo:
                    undo()
                raise TaskError(fault.message)

    def get(self, upid: str) -> Task:
        """A task by its UPID.

        Raises:
            ApiError: 400 or 500.
        """
        if not upid.startswith("UPID:"):
            raise ApiError(500, f"unable to parse worker upid '{upid}'")
        if upid not in self._state.tasks:
            raise ApiError(500, f"no such task '{upid}'")
        return self._state.tasks[upid]

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is running, then cut the rest off."""
        if self._running:
            _, late = await asyncio.wait(set(self._running.values()), timeout=timeout_s)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _fail(task: Task, message: str) -> None:
    task.exitstatus = message
    task.log.append(f"TASK ERROR: {message}")
