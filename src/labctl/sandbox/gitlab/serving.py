"""Serves the stand-ins' repository, and the sandbox's images, on the guests' network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from labctl.model.guestfiles import PACKAGES_PORT
from labctl.sandbox.gitlab import repository

log = logging.getLogger(__name__)


class PackageServer:
    """The repository over http, on the guests' gateway: apt checks its signatures, so the way there need not be secret.

    Args:
        address: The gateway's address; it is there once the guests' network is.
        folder: Where the repository is made.
        more: What else is served: each adds its routes.
    """

    def __init__(self, address: str, folder: Path, *more: Callable[[web.Application], None]) -> None:
        self._address = address
        self._folder = folder
        self._more = more
        self._runner: web.AppRunner | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Makes the repository and serves it, unless it does. Where somebody else listens there, guests come up without."""
        async with self._opening:
            if self._runner is not None:
                return
            await asyncio.to_thread(repository.build, self._folder)
            runner = web.AppRunner(repository.application(self._folder, *self._more), access_log=None)
            await runner.setup()
            try:
                await web.TCPSite(runner, self._address, PACKAGES_PORT, shutdown_timeout=1.0).start()
            except OSError as error:
                log.warning(
                    "no packages and no images on %s:%s: %s. Guest gitlab cannot install.", self._address, PACKAGES_PORT, error
                )
                await runner.cleanup()
                return
            self._runner = runner
            log.info("packages of the stand-ins, and images, on http://%s:%s", self._address, PACKAGES_PORT)

    async def close(self) -> None:
        """Ends it."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
