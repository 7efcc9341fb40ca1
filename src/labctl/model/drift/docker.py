"""The engine of guest `docker` against the projects that the lab has there. Pure.

What changed inside of a project that is declared, Terraform's plan tells.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from labctl.model.drift.finding import Change, Finding, Kind, Severity

AREA = "docker"
GUEST = "docker"
BUILT_IN_NETWORKS = frozenset({"bridge", "host", "none"})
SYSTEM_PREFIXES = ("buildx_buildkit_",)
"""Containers of the engine's own tools, which come and go with builds."""
_ROOT_BINDS = frozenset({"/", "/etc", "/root", "/run/docker.sock", "/var/run/docker.sock", "/var/lib/docker"})


@dataclass(frozen=True, slots=True)
class FoundContainer:
    """A container of the engine.

    Attributes:
        name: Its name.
        image: The reference that it was made from.
        project: Its Compose project, "" for none.
        state: Its state.
        ports: Ports of the guest that lead to it from beyond the guest, as `8000/tcp`.
        host_network: Whether it is on the guest's own network.
        privileged: Whether it has all rights in the guest.
        binds: Folders and files of the guest that it has.
    """

    name: str
    image: str
    project: str = ""
    state: str = "running"
    ports: tuple[str, ...] = ()
    host_network: bool = False
    privileged: bool = False
    binds: tuple[str, ...] = ()

    @property
    def reach(self) -> str:
        """What it opens, in words; "" for nothing."""
        rooted = sorted(set(self.binds) & _ROOT_BINDS)
        said = [f"opens port {port} of the guest" for port in self.ports]
        said += ["is on the guest's own network"] if self.host_network else []
        said += ["is privileged"] if self.privileged else []
        return ", ".join([*said, *(f"has {bind} of the guest" for bind in rooted)])


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that an engine has.

    Attributes:
        containers: Also those that do not run.
        networks: The Compose project of each, "" for none, by name. `volumes` likewise.
    """

    containers: tuple[FoundContainer, ...]
    networks: Mapping[str, str]
    volumes: Mapping[str, str]

    def __len__(self) -> int:
        """How many things there are."""
        return len(self.containers) + len(self.networks) + len(self.volumes)


def compare_engine(projects: Collection[str], found: Inventory) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Containers and projects that nobody declared, as findings; their networks and volumes, as notes.

    Args:
        projects: Those that lab.yaml has, and those that are deployed.
        found: What the engine has.
    """
    foreign: dict[str, list[FoundContainer]] = {}
    alone = []
    for one in found.containers:
        if one.project and one.project not in projects:
            foreign.setdefault(one.project, []).append(one)
        elif not one.project and not one.name.startswith(SYSTEM_PREFIXES):
            alone.append(one)
    findings = [_project(name, containers) for name, containers in sorted(foreign.items())]
    findings += [_container(one) for one in sorted(alone, key=lambda one: one.name)]
    return tuple(findings), tuple(_notes(projects, found, foreign))


def _project(name: str, containers: Sequence[FoundContainer]) -> Finding:
    listed = ", ".join(sorted(one.name for one in containers))
    reach = "".join(f"; {one.name} {one.reach}" for one in containers if one.reach)
    text = f"guest {GUEST} runs Compose project {name}, which nobody declared: {listed}{reach}"
    return _finding(f"project/{name}", text, containers, high=bool(reach))


def _container(one: FoundContainer) -> Finding:
    reach = f"; it {one.reach}" if one.reach else ""
    text = f"container {one.name} on guest {GUEST} ({one.image}, {one.state}) is no project's{reach}"
    return _finding(f"container/{one.name}", text, [one], high=bool(reach))


def _finding(id_: str, text: str, containers: Sequence[FoundContainer], *, high: bool) -> Finding:
    changes = tuple(Change(f"{one.name}.image", None, one.image) for one in sorted(containers, key=lambda one: one.name))
    severity = Severity.HIGH if high else Severity.LOW
    return Finding(AREA, Kind.UNMANAGED, id_, text, severity, guest=GUEST, changes=changes)


def _notes(projects: Collection[str], found: Inventory, foreign: Collection[str]) -> Iterator[str]:
    for kind, there in (("network", found.networks), ("volume", found.volumes)):
        for name, project in sorted(there.items()):
            # The engine gives no label to a volume without a name, which an image asks for, also in a project.
            built_in = name in BUILT_IN_NETWORKS if kind == "network" else re.fullmatch(r"[0-9a-f]{64}", name) is not None
            if project in projects or project in foreign or (built_in and not project):
                continue
            whose = f"Compose project {project}, of which nothing else is left" if project else "no Compose project"
            yield f"{kind} {name} on guest {GUEST} is of {whose}"
