"""The sandbox's registry on loopback, from which the engine of this machine pulls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from labctl.sandbox.images.registry import add_routes
from labctl.sandbox.images.store import ImageStore


@contextmanager
def served_images(store: ImageStore) -> Iterator[str]:
    """`host:port` of the registry, until the end of the block."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> web.AppRunner:
        application = web.Application()
        add_routes(application, store)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.append(runner.addresses[0][1])
        ready.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(serve())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"127.0.0.1:{found[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
