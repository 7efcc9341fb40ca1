"""Each app is a stack, and its image is known by its source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.model.lab import Lab
from labctl.model.stackcontext import StackContext
from labctl.synth import synthesise
from labctl.synth.fingerprint import fingerprint
from stacks.constructs.image import read_context

Documents = dict[str, Any]
SOURCES = Path(__file__).parents[3] / "layers/apps"


def images(documents: Documents) -> dict[str, Any]:
    return {name: documents[name]["resource"]["labctl_image"][name] for name in ("mlserver", "web")}


def test_the_layer_has_one_stack_an_app_in_the_order_of_needs(
    lab: Callable[..., Lab], context: Callable[..., StackContext]
) -> None:
    stacks = synthesise(context(lab("apps"))).stacks
    assert [(stack.name, stack.layer, stack.dependencies) for stack in stacks[2:]] == [
        ("services", "services", ("foundation", "platform")),
        ("mlserver", "apps", ("platform", "services")),
        ("web", "apps", ("mlserver", "platform", "services")),
    ]


def test_an_image_is_built_from_its_source_and_deployed_by_its_digest(
    lab: Callable[..., Lab], context: Callable[..., StackContext], documents: Callable[..., Documents]
) -> None:
    this = lab("apps")
    made = documents(this)
    for name, image in images(made).items():
        module = context(this).outdir / "stacks" / name
        context_path = re.fullmatch(r'\$\{abspath\("(\.\./.*)"\)\}', image["context"])
        assert context_path is not None
        assert Path(os.path.normpath(module / context_path[1])) == SOURCES / name
        assert image["tag"] == image["build_args"]["VERSION"] == image["context_hash"][:12]
        assert f'image: "${{labctl_image.{name}.reference}}"' in made[name]["resource"]["labctl_compose_project"][name]["compose"]
        assert made[name]["output"]["image"]["value"] == f"${{labctl_image.{name}.reference}}"


def test_a_changed_source_or_base_is_a_change_and_a_cache_beside_it_is_none(
    lab: Callable[..., Lab], documents: Callable[..., Documents], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mlserver", "web"):
        (tmp_path / "apps" / name / "deep").mkdir(parents=True)
        (tmp_path / "apps" / name / "deep/file").write_text("one")
    monkeypatch.setattr("stacks.constructs.image.files", lambda _package: tmp_path)

    def hashes(*change: tuple[str, str]) -> list[str]:
        return [
            image["context_hash"]
            for image in images(documents(lab("apps", *change), own_ssh_key=f"ssh-ed25519 {next(counter)}")).values()
        ]

    counter = iter("abcdefgh")  # the stacks' code is the same: something else must make them be synthesised again
    before = hashes()
    (tmp_path / "apps/web/__pycache__").mkdir()
    (tmp_path / "apps/web/__pycache__/x.pyc").write_text("x")
    (tmp_path / "apps/web/node_modules").mkdir()
    (tmp_path / "apps/web/node_modules/x.js").write_text("x")
    assert hashes() == before
    (tmp_path / "apps/web/deep/file").write_text("two")
    after = hashes()
    assert (after[0], after[1] != before[1]) == (before[0], True)
    assert hashes(("5000/node:22", "5000/node:24"))[1] not in (before[1], after[1])


def test_a_source_is_all_of_its_files() -> None:
    for name, wanted in {"mlserver": "mlserver/app.py", "web": "server.js"}.items():
        found = read_context(SOURCES / name)
        assert {"Dockerfile", ".dockerignore", wanted} <= found.keys()
        assert not [path for path in found if "__pycache__" in path]


def test_the_hash_of_a_synthesis_covers_where_sources_lie(
    lab: Callable[..., Lab], context: Callable[..., StackContext], tmp_path: Path
) -> None:
    def at(name: str, home: Path) -> str:
        return fingerprint(context(lab(name), outdir=home, state_dir=home / "state"))

    assert at("apps", tmp_path / "a") != at("apps", tmp_path / "b" / "c")
    assert at("sandbox", tmp_path / "a") == at("sandbox", tmp_path / "b" / "c")


def test_ports_of_all_replicas_are_opened(lab: Callable[..., Lab], documents: Callable[..., Documents]) -> None:
    rules = documents(lab("apps"))["platform"]["resource"]["proxmox_virtual_environment_firewall_rules"]["docker"]["rule"]
    assert [rule["dport"] for rule in rules if "app" in rule["comment"]] == ["8000", "8001", "3001"]
