"""What on guest `docker` counts as nobody's."""

from __future__ import annotations

import pytest

from labctl.model.drift import Severity
from labctl.model.drift.docker import FoundContainer, Inventory, compare_engine

PROJECTS = ("postgres", "mlflow")
OWN = FoundContainer("postgres-postgres-1", "postgres:18.4", "postgres", ports=("5432/tcp",))

SEEDED = {
    "a container by hand": (FoundContainer("tmp", "debian:13"), "container/tmp", Severity.LOW),
    "one that ended": (FoundContainer("old", "debian:13", state="exited"), "container/old", Severity.LOW),
    "one that opens a port": (FoundContainer("web", "nginx:1", ports=("8081/tcp",)), "container/web", Severity.HIGH),
    "one on the host's network": (FoundContainer("net", "nginx:1", host_network=True), "container/net", Severity.HIGH),
    "one with all rights": (FoundContainer("root", "debian:13", privileged=True), "container/root", Severity.HIGH),
    "one with the engine's socket": (
        FoundContainer("ctl", "x:1", binds=("/var/run/docker.sock",)),
        "container/ctl",
        Severity.HIGH,
    ),
    "a project by hand": (FoundContainer("blog-db-1", "mysql:9", "blog"), "project/blog", Severity.LOW),
    "a project that opens a port": (FoundContainer("wiki-1", "w:1", "wiki", ports=("80/tcp",)), "project/wiki", Severity.HIGH),
}
HARMLESS = {
    "a project's own": OWN,
    "one of its own that was killed": FoundContainer("mlflow-mlflow-1", "m:3", "mlflow", state="exited"),
    "a one-off of a project": FoundContainer("postgres-psql-run-1", "postgres:18.4", "postgres"),
    "a build": FoundContainer("buildx_buildkit_lab0", "moby/buildkit:buildx-stable-1", privileged=True),
}


@pytest.mark.parametrize("name", SEEDED)
def test_what_nobody_declared_is_named(name: str) -> None:
    container, id_, severity = SEEDED[name]
    (found,), notes = compare_engine(PROJECTS, Inventory((OWN, container), {"bridge": ""}, {}))
    assert (found.id, found.severity, found.guest, notes) == (id_, severity, "docker", ())
    assert container.name in found.text
    assert container.reach in found.text


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_the_labs_own_is_clean(name: str) -> None:
    networks = {"bridge": "", "host": "", "none": "", "lab-postgres": "postgres"}
    there = Inventory((OWN, HARMLESS[name]), networks, {"postgres_data": "postgres", "0123456789abcdef" * 4: ""})
    assert compare_engine(PROJECTS, there) == ((), ())


def test_networks_and_volumes_of_nobody_are_notes() -> None:
    found, notes = compare_engine(PROJECTS, Inventory((OWN,), {"mine": "", "blog_default": "blog"}, {"3f1c": ""}))
    assert found == ()
    assert notes == (
        "network blog_default on guest docker is of Compose project blog, of which nothing else is left",
        "network mine on guest docker is of no Compose project",
        "volume 3f1c on guest docker is of no Compose project",
    )


def test_several_containers_of_a_project_are_one_finding() -> None:
    two = (FoundContainer("blog-web-1", "b:1", "blog", ports=("80/tcp",)), FoundContainer("blog-db-1", "m:9", "blog"))
    (found,), notes = compare_engine(PROJECTS, Inventory(two, {"blog_default": "blog"}, {"blog_db": "blog"}))
    said = "guest docker runs Compose project blog, which nobody declared: blog-db-1, blog-web-1"
    assert found.text == f"{said}; blog-web-1 opens port 80/tcp of the guest"
    assert notes == ()
