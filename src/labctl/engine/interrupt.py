"""Ctrl-C: nothing new starts, running Terraforms are asked to finish once, and their state is kept."""

from __future__ import annotations

import queue
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

    Whoever runs something that must be told registers a callback; each signal calls all of them once. That, and what is said
    about it, happens on a thread of its own: a signal may arrive while the main thread holds the lock of the journal, the view or
    stdout, and a handler that took the same lock would wait for itself for ever.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._lock = threading.Lock()
        self._received: queue.SimpleQueue[int] = queue.SimpleQueue()  # the one queue that a signal handler may put into
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
        teller = threading.Thread(target=self._tell, name="interrupts", daemon=True)
        teller.start()
        old = {name: signal.signal(name, self._receive) for name in names}
        try:
            yield
        finally:
            for name, handler in old.items():
                signal.signal(name, handler)
            self._received.put(0)
            teller.join()

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self._raising:
            self.check()
        self._received.put(self.count)

    def _tell(self) -> None:
        """Tells of each signal, in order, until 0 comes."""
        while count := self._received.get():
            with self._lock:
                callbacks = list(self._callbacks.values())
            for callback in callbacks:
                callback()
            if count == 1:
                self._say("stopping: Terraform finishes what it has begun and keeps its state (Ctrl-C again to ask once more)")
            else:
                self._say("Terraform was asked again. Killing it now could leave things behind that no state knows.")
