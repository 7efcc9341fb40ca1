"""Ctrl-C: nothing new starts, running Terraforms are asked to finish once, and their state is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from labctl.model.errors import LabError


class Interrupted(LabError):
    """The run was stopped by a signal; what had started was finished."""


class Interrupts:
    """The run's view of signals.

    Whoever runs something that must be told registers a callback; the first signal calls all of them once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._lock = threading.RLock()  # a signal may arrive while this thread holds it
        self.count = 0
        self._raising = 0

    def check(self) -> None:
        """Stops here when a signal came.

        Raises:
            Interrupted: A signal came.
        """
        if self.count:
            raise Interrupted("interrupted", hint="Nothing was lost: run the command again to go on.")

    @contextmanager
    def raising(self) -> Iterator[None]:
        """A signal ends the block at once, by `Interrupted`: for waits, and for what may be cut off anywhere (main thread)."""
        self.check()
        self._raising += 1
        try:
            yield
        finally:
            self._raising -= 1

    @contextmanager
    def telling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Calls `callback` for each signal while the block runs."""
        key = id(callback)
        with self._lock:
            self._callbacks[key] = callback
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.pop(key, None)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Takes SIGINT, SIGTERM and SIGHUP while the block runs (main thread only)."""
        names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        old = {name: signal.signal(name, self._receive) for name in names}
        try:
            yield
        finally:
            for name, handler in old.items():
                signal.signal(name, handler)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self._raising:
            self.check()
        if self.count == 1:
            self._say("stopping: Terraform finishes what it has begun and keeps its state (Ctrl-C again to ask once more)")
        else:
            self._say("Terraform was asked again. Killing it now could leave things behind that no state knows.")
        with self._lock:
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            callback()
