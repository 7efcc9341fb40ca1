"""Images that the provider builds on the real engine and pushes to a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.dockercompose import IMAGE, PREFIX, docker
from tests.dockerregistry import registry
from tests.ownprovider import IDLE, Stack

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("provider")]

DOCKERFILE = f"FROM {IMAGE}\nARG SAID\nCOPY part /part\nRUN echo $SAID >> /part/text\n"
SAID = 'hello it\'s "one"'
TEXT = IDLE.replace(IMAGE, "${labctl_image.this.reference}")


class Built:
    """A stack with an image, a project that runs it by its digest, and the registry, which is up only when it is asked for."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.context, self._registry = stack, folder / "context", folder / "registry"
        (self.context / "part").mkdir(parents=True)
        self.address, self._count, self._image = "", 0, dict[str, Any]()

    def create(self) -> None:
        with self.registry() as address:
            self.address = address
            self.write()
            assert "2 to add" in self.stack.plan()
            self.stack.apply_plan()

    @property
    def name(self) -> str:
        return f"{self.address}/{PREFIX}/app"

    def registry(self) -> AbstractContextManager[str]:
        return registry(self._registry, address=self.address)

    def write(self, dockerfile: str = DOCKERFILE) -> None:
        """Another content."""
        self._count += 1
        (self.context / "part" / "text").write_text(f"{self._count}\n")
        (self.context / "Dockerfile").write_text(dockerfile)
        self.change(tag="1", build_args={"SAID": SAID}, context_hash=str(self._count))

    def change(self, **settings: Any) -> None:
        self._image |= {"name": self.name, "context": str(self.context), **settings}
        self.deploy(TEXT)

    def deploy(self, text: str) -> None:
        self.stack.write(text, resources={"labctl_image": {"this": self._image}})

    def runs_newest(self) -> bool:
        said = self.stack.in_container("idle", "cat", "/part/text").splitlines()
        assert said[1] == SAID
        return said[0] == str(self._count)

    @property
    def digest(self) -> str:
        state = self.stack.state("labctl_image") or {}
        assert state["reference"] == f"{self.name}@{state['digest']}"
        return str(state["digest"])


@pytest.fixture(scope="module")
def built(attached: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("image")
    made = Built(Stack(folder / "stack", "image", attached), folder)
    try:
        made.create()
        yield made
    finally:
        made.stack.clear()
        # By id, as what is no longer tagged goes too.
        if found := docker("images", "-aq", "--filter", f"reference={made.name}").split():
            docker("rmi", "-f", *set(found))


def test_an_image_is_pushed_and_run_by_its_digest_and_built_again_only_when_its_content_changes(built: Built) -> None:
    stack, first = built.stack, built.digest
    stack.settled()
    assert first.startswith("sha256:")
    assert built.runs_newest()
    with built.registry():
        # Where the folder lies does not matter, what is in it does.
        built.context = built.context.rename(built.context.with_name("moved"))
        built.change()
        stack.settled()
        docker("rmi", "-f", f"{built.name}:1")
        stack.settled()
        assert built.digest == first

        built.write()
        assert "(known after apply)" in stack.plan()
        stack.apply_plan()
        stack.settled()
        assert built.digest != first
        assert built.runs_newest()


def test_a_build_that_fails_says_why_and_leaves_what_was(built: Built) -> None:
    stack, before = built.stack, built.digest
    steps = ("ps", "-a", "--no-trunc", "--format", "{{.Command}}")
    left = docker(*steps).count("out of paper")
    built.write(f"FROM {IMAGE}\nRUN echo out of paper; exit 3\n")
    said = stack.fails()
    assert docker(*steps).count("out of paper") == left, "the container of the step stays"
    assert "out of paper" in said
    assert '"context"' in said, "the attribute is pointed at"
    assert "2 to change" in stack.plan()
    assert built.digest == before
    assert not built.runs_newest()
    built.change(context="/nowhere")
    assert "is not a folder" in stack.fails()


def test_a_registry_that_is_down_stops_a_push_and_not_what_runs(built: Built) -> None:
    stack, before = built.stack, built.digest
    built.write()
    assert "registry cannot be reached" in stack.fails()
    assert built.digest == before
    assert not built.runs_newest()
    with built.registry():
        stack.apply()
        assert built.runs_newest()
        built.deploy(IDLE.replace(IMAGE, f"{built.name}@sha256:{'0' * 64}"))
        assert "That image is not in its registry" in stack.fails()
    built.change()
    # The engine has it.
    stack.settled()
