"""Serves the stand-ins' apt repository to the guests."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from aiohttp import web

from labctl.model.lab import PACKAGES_PORT
from labctl.sandbox.gitlab import repository

log = logging.getLogger(__name__)


class PackageServer:
    """The repository over HTTP; apt checks its signature.

    Args:
        address: Where to listen: this machine's address on the guests' network.
        folder: Where it is built.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._listen = address
        self._folder = folder
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Build the repository and listen, unless it does."""
        if self._runner:
            return
        runner: web.AppRunner | None = None
        try:
            await asyncio.to_thread(repository.build, self._folder)
            runner = web.AppRunner(repository.application(self._folder), access_log=None, handle_signals=False)
            await runner.setup()
            await web.TCPSite(runner, self._listen, PACKAGES_PORT).start()
        except OSError as error:
            log.warning("no package repository on %s:%s: %s", self._listen, PACKAGES_PORT, error)
            if runner:
                await runner.cleanup()
        else:
            self._runner = runner

    async def close(self) -> None:
        """Stop."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
