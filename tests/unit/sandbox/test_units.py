"""Units that are ready when something is there, and leave nothing behind that is of no more use."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from labctl.sandbox.guests.files import GuestFiles
from labctl.sandbox.guests.processes import Children
from labctl.sandbox.guests.units import Service, ServiceUnit


def unit(tmp_path: Path, program: str) -> tuple[ServiceUnit, GuestFiles]:
    files = GuestFiles(tmp_path / "disk", tmp_path / "run")
    files.make()
    files.write("/run/lab/token", b"x")
    service = Service(
        "one.service",
        lambda: [sys.executable, "-c", program, str(files.host_path("/run/lab/made"))],
        ("/run/lab/token",),
        "/var/lib",
        ready=("/run/lab/made",),
        spent=("/run/lab/token",),
        restarts=False,
    )
    return ServiceUnit(service, files, Children(tmp_path / "children.json")), files


def test_it_is_active_once_its_file_is_there(tmp_path: Path) -> None:
    async def life() -> None:
        one, files = unit(
            tmp_path, "import pathlib, sys, time; time.sleep(0.3); pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
        )
        start = asyncio.create_task(one.start())
        await asyncio.sleep(0.1)
        assert one.state == "activating"
        assert await start == ""
        assert one.state == "active"
        assert files.exists("/run/lab/token"), "whoever runs may still need it"
        await one.stop()
        assert (one.state, files.exists("/run/lab/token")) == ("inactive", False)

    asyncio.run(life())


def test_one_that_ends_before_has_failed_is_not_started_again_and_leaves_nothing(tmp_path: Path) -> None:
    async def life() -> None:
        one, files = unit(tmp_path, "raise SystemExit(1)")
        assert "failed" in await one.start()
        await asyncio.sleep(1)
        assert (one.state, files.exists("/run/lab/token")) == ("failed", False)
        assert await one.start() == "", "what it needs is gone: the condition does not hold"
        assert one.state == "failed"

    asyncio.run(life())
