"""Images that the provider builds on the real engine and pushes to a real registry."""

from __future__ import annotations

from collections.abc import Iterator
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
    """A stack with an image, and a project that runs it by its digest."""

    def __init__(self, stack: Stack, name: str, context: Path) -> None:
        self.stack, self.name, self.context = stack, name, context
        (context / "part").mkdir(parents=True)
        self.content("one", DOCKERFILE)

    def content(self, text: str, dockerfile: str = "") -> None:
        (self.context / "part" / "text").write_text(f"{text}\n")
        if dockerfile:
            (self.context / "Dockerfile").write_text(dockerfile)

    def write(self, context_hash: str, **more: Any) -> None:
        image = {"name": self.name, "tag": "1", "context": str(self.context), "context_hash": context_hash, **more}
        self.stack.write(TEXT, resources={"labctl_image": {"this": {"build_args": {"SAID": SAID}, **image}}})

    def said(self) -> list[str]:
        return self.stack.in_container("idle", "cat", "/part/text").splitlines()

    @property
    def digest(self) -> str:
        state = self.stack.state("labctl_image") or {}
        assert state["reference"] == f"{self.name}@{state['digest']}"
        return str(state["digest"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with registry(folder) as found:
        yield found


@pytest.fixture
def built(folder: Path, stack: Stack, tmp_path: Path) -> Iterator[Built]:
    """One that is up, and whose registry is down."""
    with registry(folder) as address:
        made = Built(stack, f"{address}/{PREFIX}/app", tmp_path / "context")
        made.write("1")
        assert "2 to add" in stack.plan()
        stack.apply_plan()
        stack.settled()
    yield made
    stack.clear()
    # By id, as what is no longer tagged goes too.
    if found := docker("images", "-aq", "--filter", f"reference={made.name}").split():
        docker("rmi", "-f", *set(found))


def test_an_image_is_built_pushed_run_by_its_digest_and_built_again_when_its_content_changes(
    built: Built, folder: Path, tmp_path: Path
) -> None:
    first, stack = built.digest, built.stack
    assert first.startswith("sha256:")
    assert built.said() == ["one", SAID]
    with registry(folder, built.name.partition("/")[0]):
        # Where the folder lies does not matter, what is in it does.
        built.context = built.context.rename(tmp_path / "moved")
        built.write("1")
        assert "context_hash" not in stack.plan()
        docker("rmi", "-f", f"{built.name}:1")
        assert "1 changed" in stack.apply_plan()
        stack.settled()
        assert built.digest == first

        built.content("two")
        built.write("2")
        assert "(known after apply)" in stack.plan()
        stack.apply_plan()
        stack.settled()
        assert built.digest != first
        assert built.said() == ["two", SAID]


def test_a_build_that_fails_says_why_and_leaves_what_was(built: Built, tmp_path: Path) -> None:
    first, stack = built.digest, built.stack
    built.content("two", f"FROM {IMAGE}\nRUN echo out of paper; exit 3\n")
    built.write("2")
    said = stack.fails()
    assert "out of paper" in said
    assert '"context"' in said, "the attribute is pointed at"
    assert "2 to change" in stack.plan()
    assert (built.digest, built.said()) == (first, ["one", SAID])
    built.write("2", context=str(tmp_path / "nowhere"))
    assert "is not a folder" in stack.fails()


def test_a_registry_that_is_down_stops_a_push_and_not_what_runs(built: Built, folder: Path) -> None:
    first, stack = built.digest, built.stack
    # The engine has it.
    stack.settled()
    built.content("two")
    built.write("2")
    said = stack.fails()
    assert "registry cannot be reached" in said
    assert (built.digest, built.said()) == (first, ["one", SAID])
    with registry(folder, built.name.partition("/")[0]) as address:
        stack.apply()
        stack.settled()
        assert built.said() == ["two", SAID]
        stack.write(IDLE.replace(IMAGE, f"{address}/{PREFIX}/app@sha256:{'0' * 64}"))
        assert "That image is not in its registry" in stack.fails()
