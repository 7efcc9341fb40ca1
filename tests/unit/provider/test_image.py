"""What resource `labctl_image` is built from, and when it is built again."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.adapters.compose import EngineUnreachable, ShellError
from labctl.model.errors import UserError
from labctl.provider.framework import Diagnostics, Unknown
from labctl.provider.image import ImageResource, packed

DIGEST = f"sha256:{'d' * 64}"
BUILT = {"id": f"r/a@{DIGEST}", "digest": DIGEST, "reference": f"r/a@{DIGEST}"}


class FakeEngine:
    """Builds nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.fails: Exception | None = None
        self.has = True

    def build(self, tag: str, context: bytes, *, dockerfile: str, args: object, platforms: object, stop: object) -> str:
        assert stop is not None
        self.asked.append((tag, dockerfile, args, platforms))
        assert context
        if self.fails:
            raise self.fails
        return ""

    def push(self, tag: str, logins: object, *, stop: object) -> str:
        assert stop is not None
        self.asked.append(tag)
        return DIGEST

    def has_image(self, reference: str, logins: object) -> bool:
        if self.fails:
            raise self.fails
        self.asked.append(reference)
        return self.has


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def context() -> Any:
    return SimpleNamespace(diagnostics=Diagnostics())


def said(context: Any) -> list[tuple[Any, ...]]:
    return [(one.severity, one.summary, one.detail, one.path) for one in context.diagnostics.diagnostics]


@pytest.fixture
def image(engine: FakeEngine) -> ImageResource:
    return ImageResource(SimpleNamespace(engine=lambda: engine))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "a" / "b" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "a" / "b" / "run").chmod(0o755)
    (tmp_path / "a" / "link").symlink_to("b/run")
    return tmp_path / "a"


def state(folder: Path, **changed: Any) -> dict[str, Any]:
    names = ("dockerfile", "platforms", "build_args", "registry_auth", "id", "digest", "reference")
    return {**dict.fromkeys(names), "name": "r/a", "tag": "1", "context": str(folder), "context_hash": "h1", **changed}


def test_the_archive_depends_on_the_content_alone(folder: Path, tmp_path: Path) -> None:
    first = packed(folder)
    (folder / "b" / "__pycache__").mkdir()
    (folder / "b" / "__pycache__" / "x.pyc").write_text("x")
    os.utime(folder / "Dockerfile", (1, 1))
    moved = folder.rename(tmp_path / "elsewhere")
    assert packed(moved) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        entries = {entry.name: (entry.mode & 0o777, entry.issym()) for entry in archive}
        assert entries["b/run"] == (0o755, False)
        assert entries["link"][1]
        assert sorted(entries) == ["Dockerfile", "b/run", "link"]
    (moved / "b" / "run").chmod(0o644)
    assert packed(moved) != first, "a program that lost its mode is another one"


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        packed(tmp_path / "none")


@pytest.mark.parametrize(
    "changed",
    [{"context_hash": "h2"}, {"tag": "2"}, {"build_args": {"A": "1"}}, {"dockerfile": "Other"}, {"platforms": ["linux/arm64"]}],
)
def test_what_it_is_built_from_plans_another_digest(image: ImageResource, folder: Path, changed: dict[str, Any]) -> None:
    planned = image.plan(None, state(folder, **BUILT), state(folder, **BUILT, **changed))
    assert [planned[name] for name in BUILT] == [Unknown] * 3


def test_a_moved_folder_is_no_change(image: ImageResource, tmp_path: Path, folder: Path) -> None:
    before, after = state(folder, **BUILT), state(tmp_path / "elsewhere", **BUILT)
    assert image.plan(None, before, dict(after)) == before
    changed = image.plan(None, before, dict(after, context_hash="h2"))
    assert (changed["context"], changed["reference"]) == (after["context"], Unknown)


def test_another_login_to_the_registry_builds_nothing(
    image: ImageResource, engine: FakeEngine, context: Any, folder: Path
) -> None:
    after = state(folder, **BUILT, registry_auth={"r": "lab/registry"})
    assert image.update(context, state(folder, **BUILT), image.plan(None, state(folder, **BUILT), dict(after))) == after
    assert engine.asked == []


def test_built_and_pushed(image: ImageResource, engine: FakeEngine, context: Any, folder: Path) -> None:
    planned = image.plan(None, None, state(folder, build_args={"A": "1"}, platforms=["linux/amd64"]))
    assert image.create(context, planned) == state(folder, build_args={"A": "1"}, platforms=["linux/amd64"], **BUILT)
    assert engine.asked == [("r/a:1", "Dockerfile", {"A": "1"}, ["linux/amd64"]), "r/a:1"]


def test_a_failed_build_leaves_what_was(image: ImageResource, engine: FakeEngine, context: Any, folder: Path) -> None:
    engine.fails = ShellError("step 3 failed", code=1, hint="Look there.")
    assert image.create(context, state(folder)) is None
    before = state(folder, **BUILT)
    assert image.update(context, before, state(folder, reference=Unknown)) is before
    assert said(context) == [("error", "r/a:1: step 3 failed", "Look there.", ["context"])] * 2


def test_read(image: ImageResource, engine: FakeEngine, context: Any, folder: Path) -> None:
    before = state(folder, **BUILT)
    assert image.read(context, before) == before
    assert engine.asked == [BUILT["reference"]]
    engine.has = False
    assert image.read(context, before) is None
    engine.fails = EngineUnreachable("gone", hint="Start it.")
    assert image.read(context, before) == before
    assert [severity for severity, *_ in said(context)] == ["error"]
