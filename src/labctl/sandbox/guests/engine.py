"""The Docker engine, by its SDK: the only room that knows it. Every call blocks; the runtime makes them in threads.

What labctl makes carries labels: `labctl.home`, the folder of the sandbox that it belongs to, and `labctl.vmid`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import docker
import docker.errors
import docker.types
import requests.exceptions

from labctl.model.errors import AdapterError
from labctl.sandbox.guests.socketpath import engine_socket

HOME_LABEL, VMID_LABEL = "labctl.home", "labctl.vmid"
CALL_TIMEOUT_S = 60
IMPORT_TIMEOUT_S = 600
BUILD_TIMEOUT_S = 600
BUILD_LAST_LINES = 15
ENDPOINT_MAC_VERSION = (1, 44)
"""From this version of the API on, a MAC address belongs to the connection with a network; before, to the container."""

CAPABILITIES = ("SYS_ADMIN", "SYS_BOOT", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH")
SECURITY = ("seccomp=unconfined", "apparmor=unconfined")
NO_HIDDEN_PATHS: Mapping[str, list[str]] = {"MaskedPaths": [], "ReadonlyPaths": []}
"""systemd and the engine inside write to /proc and /sys. (The CLI's `systempaths=unconfined`; the SDK has no word for it.)"""
TMPFS = {"/run": "exec,mode=755", "/run/lock": "", "/tmp": "exec,mode=1777"}  # noqa: S108  (inside the guest)
CONSOLE_LOG = {"max-size": "4m", "max-file": "1"}
PIDS_LIMIT = 8192
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class EngineError(AdapterError):
    """The Docker engine says no."""


class EngineGone(EngineError):
    """It does not answer."""


def label_of(home: Path) -> str:
    """What the names of a sandbox's things in Docker have in common."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Machine:
    """A container as it is to be.

    Attributes:
        name: Its name.
        image: What its disk begins as.
        hostname: Its name inside.
        labels: What it carries.
        network: The network that it is on.
        address: Its address there.
        mac: The MAC address.
        aliases: Its names for others on the network.
        memory_mib: Memory, and no swap besides.
        cpus: Processors.
        binds: Folders of this machine by where they are mounted, `path[:ro]`.
        volumes: Volumes by where they are mounted.
    """

    name: str
    image: str
    hostname: str
    labels: Mapping[str, str]
    network: str
    address: str
    mac: str
    aliases: tuple[str, ...]
    memory_mib: int
    cpus: int
    binds: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A container as it is.

    Attributes:
        id: The engine's id.
        running: Whether it runs.
        exit_code: How it ended last.
        address: Its address on the network that was asked for, "" for none.
        network: The id of that network as the container knows it; another has it by now where somebody removed it.
        binds: What of this machine is mounted in it, `source:target[:ro]`.
    """

    id: str
    running: bool
    exit_code: int
    address: str = ""
    network: str = ""
    binds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Died:
    """A container ended."""

    vmid: int
    container: str
    exit_code: int


class Engine:
    """A Docker engine behind its socket. Nothing is asked before the first call.

    Args:
        socket: Its socket, by default the one that `DOCKER_HOST` names, or the usual one.
    """

    def __init__(self, socket: str = "") -> None:
        self.socket = socket or engine_socket()
        self._client: Any = None

    @contextlib.contextmanager
    def _asked(self, doing: str) -> Iterator[Any]:
        """The SDK's low-level client; its errors become ours."""
        try:
            if self._client is None:
                self._client = docker.APIClient(f"unix://{self.socket}", version="auto", timeout=CALL_TIMEOUT_S)
            yield self._client
        except docker.errors.APIError as error:
            raise EngineError(f"Docker: {doing}: {error.explanation or error}", where=self.socket) from error
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
            raise self.gone(error) from error

    def gone(self, error: object = "") -> EngineGone:
        """The error for an engine that does not answer."""
        said = f" ({error})" if error else ""
        return EngineGone(
            f"the Docker engine does not answer on {self.socket}",
            hint=f"Start it: `systemctl start docker`, or `dockerd` where there is no systemd; then `labctl up`.{said}",
        )

    def version(self) -> str:
        """The engine's version."""
        with self._asked("version") as api:
            return str(api.version()["Version"])

    # ------------------------------------------------------------ images

    def has_image(self, name: str) -> bool:
        """Whether it has an image of this name."""
        with self._asked("images") as api:
            return bool(api.images(name, quiet=True))

    def images(self, repository: str) -> list[str]:
        """The names of a repository's images."""
        with self._asked("images") as api:
            return [str(tag) for image in api.images(repository) for tag in image.get("RepoTags") or ()]

    def import_image(self, archive: Path, name: str, changes: Sequence[str]) -> None:
        """Make an image of a root file system."""
        repository, _, tag = name.partition(":")
        with (
            self._asked(f"import of {name}"),
            contextlib.closing(docker.APIClient(f"unix://{self.socket}", version="auto", timeout=IMPORT_TIMEOUT_S)) as api,
        ):
            answer = str(api.import_image_from_file(str(archive), repository=repository, tag=tag, changes=list(changes)))
        if "sha256:" not in answer:
            raise EngineError(f"Docker: import of {name}: {answer.strip()[-400:]}", where=self.socket)

    def remove_image(self, name: str) -> None:
        """Remove an image, unless a container uses it."""
        with contextlib.suppress(EngineError), self._asked(f"image {name}") as api:
            api.remove_image(name)

    def build_image(self, context: IO[bytes], name: str, arguments: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Build an image from a context, an archive with a Dockerfile. What a step says is told; a step that fails leaves no container.

        Raises:
            EngineError: A step fails. Its words are the end of what the build said.
        """
        said: deque[str] = deque(maxlen=BUILD_LAST_LINES)
        with (
            self._asked(f"build of {name}"),
            contextlib.closing(docker.APIClient(f"unix://{self.socket}", version="auto", timeout=BUILD_TIMEOUT_S)) as api,
        ):
            events = api.build(
                fileobj=context, custom_context=True, tag=name, buildargs=dict(arguments), rm=True, forcerm=True, decode=True
            )
            left = ""
            for event in events:
                *lines, left = (left + _COLOUR.sub("", str(event.get("stream", "")))).split("\n")
                for line in filter(str.strip, lines):
                    said.append(line.rstrip())
                    say(line.rstrip())
                if "error" in event:
                    end = "\n".join((*said, str(event["error"])))
                    raise EngineError(f"Docker: build of {name} failed:\n{end}", where=self.socket)

    @contextlib.contextmanager
    def saved_image(self, name: str) -> Iterator[IO[bytes]]:
        """An image as an archive (`docker save`), to be read once."""
        with (
            self._asked(f"save of {name}"),
            contextlib.closing(docker.APIClient(f"unix://{self.socket}", version="auto", timeout=BUILD_TIMEOUT_S)) as api,
            contextlib.closing(api._get(api._url("/images/{0}/get", name), stream=True)) as answer,  # noqa: SLF001  (get_image cuts it up)
        ):
            api._raise_for_status(answer)  # noqa: SLF001
            yield answer.raw

    # ------------------------------------------------------------ networks and volumes

    def ensure_network(self, name: str, subnet: str, gateway: str, labels: Mapping[str, str]) -> str:
        """Make a network, unless it is there as it should be; its id. One with another address is made anew.

        Raises:
            EngineError: The engine refuses, as it does where it overlaps with another.
        """
        with self._asked(f"network {name}") as api:
            for found in api.networks(names=[name]):
                if found["Name"] == name and [entry["Subnet"] for entry in found["IPAM"]["Config"] or ()] == [subnet]:
                    return str(found["Id"])
                if found["Name"] == name:
                    api.remove_network(found["Id"])
            pools = [docker.types.IPAMPool(subnet=subnet, gateway=gateway)]
            ipam = docker.types.IPAMConfig(pool_configs=pools)
            return str(api.create_network(name, driver="bridge", ipam=ipam, labels=dict(labels))["Id"])

    def subnets(self) -> dict[str, str]:
        """The subnets of its networks, by network."""
        with self._asked("networks") as api:
            return {
                str(network["Name"]): str(entry["Subnet"])
                for network in api.networks()
                for entry in (network["IPAM"] or {}).get("Config") or ()
                if entry.get("Subnet")
            }

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a volume, unless it is there."""
        with self._asked(f"volume {name}") as api:
            api.create_volume(name, labels=dict(labels))

    # ------------------------------------------------------------ containers

    def find(self, name: str, network: str = "") -> Found | None:
        """A container by its name."""
        with self._asked(name) as api:
            try:
                found = api.inspect_container(name)
            except docker.errors.NotFound:
                return None
        state, connected = found["State"], (found["NetworkSettings"]["Networks"] or {}).get(network) or {}
        address = (connected.get("IPAMConfig") or {}).get("IPv4Address", "")
        binds = tuple(found["HostConfig"]["Binds"] or ())
        identity = str(connected.get("NetworkID", ""))
        return Found(found["Id"], bool(state["Running"]), int(state["ExitCode"]), address, identity, binds)

    def create(self, machine: Machine) -> None:
        """Make a container; it is not started."""
        with self._asked(machine.name) as api:
            old = _mac_of_container(api)
            endpoint = api.create_endpoint_config(ipv4_address=machine.address, aliases=list(machine.aliases))
            if not old:
                endpoint["MacAddress"] = machine.mac
            api.create_container(
                machine.image,
                name=machine.name,
                hostname=machine.hostname,
                labels=dict(machine.labels),
                # A terminal is what systemd and cloud-init write their console to.
                tty=True,
                stop_signal="SIGRTMIN+3",
                mac_address=machine.mac if old else None,
                networking_config=api.create_networking_config({machine.network: endpoint}),
                host_config=NO_HIDDEN_PATHS
                | api.create_host_config(
                    network_mode=machine.network,
                    cap_add=list(CAPABILITIES),
                    security_opt=list(SECURITY),
                    cgroupns="private",
                    tmpfs=dict(TMPFS),
                    binds=binds_of(machine),
                    log_config=docker.types.LogConfig(type="json-file", config=CONSOLE_LOG),
                    pids_limit=PIDS_LIMIT,
                    **_limits(machine.memory_mib, machine.cpus),
                ),
            )

    def start(self, name: str) -> None:
        """Start a container."""
        with self._asked(name) as api:
            api.start(name)

    def stop(self, name: str, grace_s: float) -> None:
        """Stop a container: its stop signal, a while, SIGKILL. Nothing happens to one that does not run or is not there."""
        with self._asked(name) as api, contextlib.suppress(docker.errors.NotFound):
            api.stop(name, timeout=max(1, round(grace_s)))

    def update(self, name: str, memory_mib: int, cpus: int) -> None:
        """Change a container's limits."""
        limits = _limits(memory_mib, cpus)
        with self._asked(name) as api:
            # The SDK's update_container knows no CPU limit of this kind.
            url = api._url("/containers/{0}/update", name)  # noqa: SLF001  (there is no public way)
            body = {"Memory": limits["mem_limit"], "MemorySwap": limits["memswap_limit"], "NanoCpus": limits["nano_cpus"]}
            api._result(api._post_json(url, data=body), True)  # noqa: SLF001

    def move(self, machine: Machine) -> None:
        """Give a stopped container another address, or the network that took the place of its own."""
        with self._asked(machine.name) as api:
            with contextlib.suppress(docker.errors.APIError):
                api.disconnect_container_from_network(machine.name, machine.network, force=True)
            mac = {} if _mac_of_container(api) else {"mac_address": machine.mac}
            api.connect_container_to_network(
                machine.name, machine.network, ipv4_address=machine.address, aliases=list(machine.aliases), **mac
            )

    def remove(self, name: str) -> None:
        """Remove a container, running or not."""
        with self._asked(name) as api, contextlib.suppress(docker.errors.NotFound):
            api.remove_container(name, v=True, force=True)

    def console(self, name: str, tail: int) -> str:
        """The last lines of what a container wrote to its console."""
        with self._asked(name) as api:
            return bytes(api.logs(name, tail=tail)).decode(errors="replace")

    # ------------------------------------------------------------ all that a sandbox has

    def containers(self, home: Path, *, running: bool = False) -> dict[str, int]:
        """The names of a sandbox's containers, with their guests' ids."""
        with self._asked("containers") as api:
            listed = api.containers(all=not running, filters={"label": f"{HOME_LABEL}={home}"})
            return {str(one["Names"][0]).lstrip("/"): int(one["Labels"].get(VMID_LABEL, 0)) for one in listed}

    def remove_volumes(self, home: Path, vmid: int | None = None) -> None:
        """Remove a sandbox's volumes, or those of one guest."""
        labels = [f"{HOME_LABEL}={home}"] + ([f"{VMID_LABEL}={vmid}"] if vmid is not None else [])
        with self._asked("volumes") as api:
            for volume in api.volumes(filters={"label": labels})["Volumes"] or ():
                api.remove_volume(volume["Name"], force=True)

    def remove_all(self, home: Path) -> None:
        """Remove every container, volume and network of a sandbox."""
        for name in self.containers(home):
            self.remove(name)
        self.remove_volumes(home)
        with self._asked("networks") as api:
            for network in api.networks(filters={"label": f"{HOME_LABEL}={home}"}):
                api.remove_network(network["Id"])

    def deaths(self, home: Path) -> Deaths:
        """The ends of a sandbox's containers, from now on."""
        with self._asked("events"):
            client = docker.APIClient(f"unix://{self.socket}", version="auto", timeout=CALL_TIMEOUT_S)
            filters = {"type": "container", "event": ["die"], "label": f"{HOME_LABEL}={home}"}
            return Deaths(client, client.events(filters=filters, decode=True))

    def close(self) -> None:
        """Forget the connections."""
        if self._client is not None:
            self._client.close()


class Deaths:
    """A stream of ends; iterating ends where the engine goes away or the stream is closed.

    Args:
        client: A client of its own.
        stream: What it reads.
    """

    def __init__(self, client: Any, stream: Any) -> None:
        self._client = client
        self._stream = stream

    def __iter__(self) -> Iterator[Died]:
        with contextlib.suppress(docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError):
            for event in self._stream:
                found = event["Actor"]
                attributes = found["Attributes"]
                yield Died(int(attributes.get(VMID_LABEL, 0)), str(found["ID"]), int(attributes.get("exitCode", 0)))

    def close(self) -> None:
        """End the stream."""
        with contextlib.suppress(docker.errors.DockerException, OSError):
            self._stream.close()
        self._client.close()


def binds_of(machine: Machine) -> list[str]:
    """What of this machine, and which volumes, a container mounts."""
    return [f"{source}:{target}" for target, source in {**machine.binds, **machine.volumes}.items()]


def _mac_of_container(api: Any) -> bool:
    return tuple(int(part) for part in api.api_version.split(".")) < ENDPOINT_MAC_VERSION


def _limits(memory_mib: int, cpus: int) -> dict[str, int]:
    memory = memory_mib * 2**20
    # The engine refuses more processors than the machine has.
    return {"mem_limit": memory, "memswap_limit": memory, "nano_cpus": min(cpus, os.cpu_count() or 1) * 10**9}
