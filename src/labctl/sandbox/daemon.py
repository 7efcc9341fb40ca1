"""The sandbox's process: the emulated hypervisor, its SFTP server and the guests behind it, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web

from labctl.model.errors import LabError, UserError
from labctl.sandbox.credentials import CredentialFiles, write_private
from labctl.sandbox.guests.appliance import ApplianceRuntime
from labctl.sandbox.guests.processes import Children
from labctl.sandbox.guests.runtime import GuestRuntime
from labctl.sandbox.guests.runtime_folder import runtime_folder
from labctl.sandbox.layout import Layout
from labctl.sandbox.pids import start_time
from labctl.sandbox.pve import power, sftp
from labctl.sandbox.pve.control import Control
from labctl.sandbox.pve.host import Host
from labctl.sandbox.pve.identity import seed_accounts
from labctl.sandbox.pve.recording import Recorder
from labctl.sandbox.pve.server import Api
from labctl.sandbox.pve.state import StateFile
from labctl.sandbox.settings import SSH_USERNAME, TOKEN_ID, SandboxConfig

log = logging.getLogger("labctl.sandbox")
DRAIN_S = 5.0
FOLDER_CHECK_S = 2.0


def run(home: Path) -> int:
    """Serve the sandbox of a home until SIGTERM or SIGINT; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    layout = Layout(home.resolve())
    try:
        with _alone(layout):
            asyncio.run(_serve(layout))
    except LabError as error:
        log.error("%s %s", error, error.hint)  # noqa: TRY400  (the sentence is for a person; a traceback would bury it)
        return 1
    return 0


@contextlib.contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Hold the home's lock, and say in its pid file who does."""
    with layout.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError("another sandbox runs on this folder", where=str(layout.home)) from error
        write_private(layout.pid, json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}).encode())
        try:
            yield
        finally:
            layout.pid.unlink(missing_ok=True)


async def _serve(layout: Layout) -> None:
    ended = _on_signal()
    config = SandboxConfig.read(layout.config)
    files = CredentialFiles(layout.home)
    credentials = files.make(config.address)
    children = Children(layout.children)
    for pid in children.end_leftovers():
        log.warning("ended process %s, which an earlier sandbox had left", pid)
    layout.chroot.mkdir(parents=True, exist_ok=True)
    runtime = _runtime(config, layout, children)
    host = Host(config, StateFile(layout.state), layout.chroot, runtime)
    host.fingerprint = files.fingerprint()
    host.datastores.make_folders()
    seed_accounts(host.state, root_password=credentials.root_password, token_id=TOKEN_ID, token=credentials.token)
    host.save()

    boot = asyncio.Event()
    recorder = Recorder(layout.recordings)
    control = Control(host, recorder, credentials.control_token, boot.is_set)
    runner = web.AppRunner(Api(host, recorder, control).application(), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.server_certificate, files.server_key)
        await web.TCPSite(runner, config.address, config.api_port, ssl_context=context, shutdown_timeout=1.0).start()
        ssh = await sftp.serve(
            config.address,
            config.ssh_port,
            root=layout.chroot,
            host_key=files.ssh_host_key,
            username=SSH_USERNAME,
            password=credentials.root_password,
            public_key=files.ssh_key.with_suffix(".pub").read_text(),
        )
        log.info("listening on %s, SFTP on port %s", config.endpoint, config.ssh_port)
        try:
            await runtime.open(lambda vmid: power.ended(host, vmid))
            await _boot(host, boot)
            await _until_ended(ended, layout)
            # From here on nobody is to count on it; the lock tells that it is still here.
            layout.pid.unlink(missing_ok=True)
        finally:
            ssh.close()
            await _shut_down(host, layout)
    finally:
        await runner.cleanup()
    log.info("stopped")


def _runtime(config: SandboxConfig, layout: Layout, children: Children) -> GuestRuntime:
    """What runs behind guests."""
    run_folder = _empty(runtime_folder(layout.home))
    if config.guests != "container":
        return ApplianceRuntime(layout.disks, run_folder, children)
    from labctl.sandbox.guests.container import ContainerRuntime
    from labctl.sandbox.guests.engine import Engine

    return ContainerRuntime(layout.home, layout.disks, run_folder, config.subnet, Engine())


def _empty(folder: Path) -> Path:
    """A guest's `/run` does not outlive its boot: whatever an earlier sandbox left there goes."""
    import shutil

    for entry in folder.iterdir():
        shutil.rmtree(entry, ignore_errors=True)
    return folder


async def _boot(host: Host, booted: asyncio.Event) -> None:
    """Start the guests that start by themselves, as a task that everybody can read."""
    await host.tasks.wait(host.tasks.start("startall", "", "root@pam", lambda task: power.start_all(host, task)))
    booted.set()


def _on_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


async def _until_ended(ended: asyncio.Event, layout: Layout) -> None:
    """Wait for a signal. Without its folder a sandbox ends too: nobody could find it to stop it."""
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), FOLDER_CHECK_S)
        if not layout.pid.exists():
            log.warning("%s is gone", layout.pid)
            return


async def _shut_down(host: Host, layout: Layout) -> None:
    await host.tasks.drain(DRAIN_S)
    await host.runtime.close()
    if layout.home.is_dir():
        host.save()
