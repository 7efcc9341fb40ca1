"""The container runtime: a guest is a systemd container that boots, with the real cloud-init and the real guest agent.

Its disk is the container itself, kept while the guest is off; what must outlive even a removed container (a machine's
`docker container prune`) lies on volumes. Such a container is made again, and cloud-init runs again on the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from labctl.model.errors import LabError
from labctl.model.guestfiles import GITLAB, ROLES, STORE, VAULT
from labctl.sandbox.gitlab.serving import PackageServer
from labctl.sandbox.guests.dns import NameServer
from labctl.sandbox.guests.engine import HOME_LABEL, VMID_LABEL, Died, Engine, EngineError, Machine, binds_of, label_of
from labctl.sandbox.guests.qga import NOT_RUNNING, Agent
from labctl.sandbox.guests.recipe import image_name
from labctl.sandbox.guests.runtime import AgentError, GuestError, GuestSpec, Say
from labctl.sandbox.guests.seed import write_seed
from labctl.sandbox.images.registry import serve_images

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

REBOOTED = 129
"""How a container ends whose system rebooted: SIGHUP ends its first process (reboot(2), "Behavior inside PID namespaces")."""

CLOSE_GRACE_S = 20.0
SERVICES_TIMEOUT_S = 1.5
RECONNECT_S = 1.0

DATA: Mapping[str, Mapping[str, str]] = {
    "": {"docker": "/var/lib/docker"},
    VAULT.name: {"data": "/var/lib/openbao", "tls": "/etc/openbao/tls"},
    STORE.name: {"data": "/var/lib/seaweedfs", "tls": "/etc/seaweedfs/tls"},
    GITLAB.name: {"data": "/var/opt/gitlab", "config": "/etc/gitlab", "runner": "/etc/gitlab-runner"},
}
"""What of a role's guest lies on volumes, by a short name; under "" that of every guest."""


@dataclass(slots=True)
class _Running:
    """A guest that runs. While it is being started or stopped, what the engine says of it counts for nothing."""

    spec: GuestSpec
    name: str
    agent: Agent
    changing: bool = True


class ContainerRuntime:
    """Runs guests as containers.

    Args:
        home: The sandbox's folder.
        disks: Where a guest's seed and its hosts file lie.
        run_folder: A private folder with a short path, for the agents' sockets.
        network: The guests' network; its first address is this machine's.
        engine: The Docker engine.
    """

    def __init__(self, home: Path, disks: Path, run_folder: Path, network: IPv4Network, engine: Engine) -> None:
        self._home = home
        self._disks = disks
        self._run_folder = run_folder
        self._network = network
        self._engine = engine
        self._label = label_of(home)
        self._running: dict[int, _Running] = {}
        self._names: dict[int, dict[str, str]] = {}
        self._dns = NameServer(str(network[1]), self._lookup)
        self._packages = PackageServer(str(network[1]), home / "packages", serve_images)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: Callable[[int], None] = lambda _vmid: None
        self._watcher: _Watcher | None = None

    # ------------------------------------------------------------ the interface

    async def open(self, ended: Callable[[int], None]) -> None:
        """End what an earlier sandbox left running, and watch what ends from now on."""
        self._ended = ended
        try:
            for name in await _thread(self._engine.containers, self._home, running=True):
                log.warning("stopping %s, which an earlier sandbox had left", name)
                await _thread(self._engine.stop, name, CLOSE_GRACE_S)
            await self._prepare()
        except (EngineError, GuestError) as error:
            # The API answers all the same; each start says it again.
            log.error("%s %s", error, getattr(error, "hint", ""))  # noqa: TRY400  (a sentence for a person)
        self._watcher = _Watcher(self._engine, self._home, self._on_death, self._on_stream)
        self._watcher.start()

    async def start(self, spec: GuestSpec, say: Say) -> None:
        """Boot a guest: the container that it has, or a new one.

        Raises:
            GuestError: The engine does not answer or refuses, or the base image is not there.
        """
        if not spec.boots:
            return
        if ip_address(spec.address) not in self._network:
            raise GuestError(
                f"address {spec.address} is outside the guests' network {self._network} (target.sandbox.guest_network)"
            )
        name = f"labctl-{self._label}-{spec.vmid}"
        guest = _Running(spec, name, Agent(self._sockets(spec.vmid) / "agent.sock"))
        self._running[spec.vmid] = guest
        try:
            await self._boot(guest, say)
        except (EngineError, OSError) as error:
            self._running.pop(spec.vmid, None)
            raise GuestError(f"{error}") from error
        except BaseException:
            self._running.pop(spec.vmid, None)
            raise

    async def stop(self, vmid: int, say: Say, *, grace_s: float) -> None:
        """Ask a guest's system to halt, wait, then kill it.

        Raises:
            GuestError: The engine does not answer or refuses.
        """
        guest = self._running.get(vmid)
        if guest is None:
            return
        guest.changing = True
        try:
            await _thread(self._engine.stop, guest.name, grace_s)
        except EngineError as error:
            guest.changing = False
            raise GuestError(f"{error}") from error
        self._running.pop(vmid, None)
        say(f"sandbox: container {guest.name} stopped")

    async def delete(self, vmid: int) -> None:
        """Remove a guest's container, its volumes and its files.

        Raises:
            GuestError: The engine does not answer or refuses.
        """
        try:
            await _thread(self._engine.remove, f"labctl-{self._label}-{vmid}")
            await _thread(self._engine.remove_volumes, self._home, vmid)
        except EngineError as error:
            raise GuestError(f"{error}") from error
        self._names.pop(vmid, None)
        for folder in (self._disks / str(vmid), self._sockets(vmid)):
            shutil.rmtree(folder, ignore_errors=True)

    async def agent(self, vmid: int, command: str, arguments: Mapping[str, str | list[str]]) -> object:
        """Answer a call of the guest agent: the real one does.

        Raises:
            AgentError: It does not answer, or refuses.
        """
        guest = self._running.get(vmid)
        if guest is None:
            raise AgentError(NOT_RUNNING)
        return await guest.agent.answer(command, arguments)

    async def services(self, vmid: int) -> dict[str, str]:
        """The unit of a guest's role and its state; nothing while the agent does not answer."""
        guest = self._running.get(vmid)
        role = ROLES.get(guest.spec.role) if guest else None
        if guest is None or role is None or not role.unit:
            return {}
        try:
            async with asyncio.timeout(SERVICES_TIMEOUT_S):
                _code, state = await guest.agent.run("systemctl", "is-active", role.unit, timeout_s=SERVICES_TIMEOUT_S)
        except (AgentError, TimeoutError):
            return {}
        return {role.unit: state.strip()}

    async def close(self) -> None:
        """Stop every guest, all at the same time. Their disks stay."""
        if self._watcher:
            self._watcher.close()
        for task in self._tasks:
            task.cancel()
        stops = (self.stop(vmid, lambda _: None, grace_s=CLOSE_GRACE_S) for vmid in list(self._running))
        for problem in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(problem, BaseException):
                log.error("%s", problem)
        self._dns.close()
        await self._packages.close()
        self._engine.close()

    # ------------------------------------------------------------ how a guest starts

    def _sockets(self, vmid: int) -> Path:
        return self._run_folder / str(vmid)

    async def _prepare(self) -> str:
        """The network, and the names on it; the network's id."""
        name, gateway = f"labctl-{self._label}", str(self._network[1])
        try:
            network = await _thread(self._engine.ensure_network, name, str(self._network), gateway, {HOME_LABEL: str(self._home)})
        except EngineError as error:
            if "overlaps" not in str(error):
                raise
            raise GuestError(
                f"the guests' network {self._network} overlaps with another network of the Docker engine: set another /24 as "
                "target.sandbox.guest_network in lab.yaml"
            ) from error
        await self._dns.open()
        await self._packages.open()
        return network

    async def _boot(self, guest: _Running, say: Say) -> None:
        spec = guest.spec
        network = await self._prepare()
        files = write_seed(self._disks / str(spec.vmid), spec, self._dns.address)
        files["/run/qga"] = str(_made(self._sockets(spec.vmid)))
        machine = replace(self._machine(spec, guest.name), binds=files)
        found = await _thread(self._engine.find, guest.name, machine.network)
        if found and not set(found.binds) >= set(binds_of(machine)):
            say(f"sandbox: container {guest.name} does not fit any more and is made anew; its volumes stay")
            await _thread(self._engine.remove, guest.name)
            found = None
        if found is None:
            await self._create(machine, say)
        elif not found.running:
            await _thread(self._engine.update, guest.name, machine.memory_mib, machine.cpus)
            if (found.address, found.network) != (machine.address, network):
                await _thread(self._engine.move, machine)
        await _thread(self._engine.start, guest.name)
        guest.changing = False
        after = await _thread(self._engine.find, guest.name)
        if after is None or not (after.running or after.exit_code == REBOOTED):
            console = await _thread(self._engine.console, guest.name, 5) if after else ""
            raise GuestError(f"container {guest.name} ended at once. {console.strip()}")
        self._names[spec.vmid] = dict.fromkeys((spec.name, spec.fqdn), spec.address)
        say(f"sandbox: guest {spec.name} boots as container {guest.name}, {spec.address}, instance {spec.instance_id[:12]}")

    async def _create(self, machine: Machine, say: Say) -> None:
        if not await _thread(self._engine.has_image, machine.image):
            raise GuestError(f"the guests' base image {machine.image} is not there: run `labctl sandbox image`, which builds it")
        for volume in machine.volumes.values():
            await _thread(self._engine.ensure_volume, volume, machine.labels)
        await _thread(self._engine.create, machine)
        say(f"sandbox: container {machine.name} made of {machine.image}, {machine.memory_mib} MiB, {machine.cpus} cores")

    def _machine(self, spec: GuestSpec, name: str) -> Machine:
        data = {**DATA[""], **DATA.get(spec.role, {})}
        return Machine(
            name=name,
            image=image_name(),
            hostname=spec.name,
            labels={HOME_LABEL: str(self._home), VMID_LABEL: str(spec.vmid)},
            network=f"labctl-{self._label}",
            address=spec.address,
            mac=spec.mac.lower(),
            aliases=tuple(dict.fromkeys((spec.name, spec.fqdn))),
            memory_mib=spec.memory_mib,
            cpus=spec.cores,
            volumes={target: f"{name}-{what}" for what, target in data.items()},
        )

    def _lookup(self, name: str) -> str:
        return next((names[name] for names in self._names.values() if name in names), "")

    # ------------------------------------------------------------ guests that end by themselves

    def _on_death(self, died: Died) -> None:
        guest = self._running.get(died.vmid)
        if guest is None or guest.changing:
            return
        if died.exit_code == REBOOTED:
            self._spawn(self._again(guest))
            return
        log.info("guest %s ended with %s", died.vmid, died.exit_code)
        self._lose(guest)

    def _on_stream(self, *, connected: bool) -> None:
        """The engine was found, or lost: with it go its containers."""
        if connected:
            self._spawn(self._look())
        elif self._running:
            log.error("%s Its guests are taken as stopped.", self._engine.gone())
            for guest in list(self._running.values()):
                self._lose(guest)

    async def _look(self) -> None:
        """What ended while nobody watched."""
        for guest in [one for one in self._running.values() if not one.changing]:
            with contextlib.suppress(EngineError):
                found = await _thread(self._engine.find, guest.name)
                if self._running.get(guest.spec.vmid) is guest and (found is None or (not found.running and found.exit_code)):
                    self._on_death(Died(guest.spec.vmid, guest.name, found.exit_code if found else 0))

    async def _again(self, guest: _Running) -> None:
        """The guest's system rebooted: as with a real machine, its configuration is not read again."""
        try:
            await _thread(self._engine.start, guest.name)
        except EngineError as error:
            log.error("guest %s rebooted and does not come up: %s", guest.spec.vmid, error)  # noqa: TRY400
            self._lose(guest)
        else:
            log.info("guest %s rebooted", guest.spec.vmid)

    def _lose(self, guest: _Running) -> None:
        if self._running.get(guest.spec.vmid) is guest:
            del self._running[guest.spec.vmid]
            self._ended(guest.spec.vmid)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Watcher:
    """Reads the engine's events in a thread, for as long as the sandbox lives.

    Args:
        engine: The engine.
        home: Whose containers.
        on_death: Called in the event loop for each end.
        on_stream: Called there when the engine was found or lost.
    """

    def __init__(self, engine: Engine, home: Path, on_death: Callable[[Died], None], on_stream: Callable[..., None]) -> None:
        self._engine = engine
        self._home = home
        self._on_death = on_death
        self._on_stream = on_stream
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        self._stream: Any = None

    def start(self) -> None:
        """Begin. A daemon thread: it never holds the sandbox's end up."""
        threading.Thread(target=self._run, name="docker-events", daemon=True).start()

    def close(self) -> None:
        """End."""
        self._closed.set()
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._stream = self._engine.deaths(self._home)
            except LabError:
                self._call(lambda: self._on_stream(connected=False))
                self._closed.wait(RECONNECT_S)
                continue
            self._call(lambda: self._on_stream(connected=True))
            for died in self._stream:
                self._call(partial(self._on_death, died))

    def _call(self, what: Callable[[], None]) -> None:
        if not self._closed.is_set():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what)


async def _thread(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.to_thread(call, *args, **kwargs)


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
