"""examples/proxmox.yaml: loads, holds every setting, and explains each one."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab

EXAMPLE = Path(__file__).parents[3] / "examples" / "proxmox.yaml"
Keys = tuple[str, ...]


@pytest.fixture(scope="module")
def text() -> str:
    return EXAMPLE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(text) -> Any:
    return YAML(typ="rt").load(text)


def model_in(annotation: Any) -> type[BaseModel] | None:
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return next((one for one in choices if isinstance(one, type) and issubclass(one, BaseModel)), None)


def fields_of(model: type[BaseModel], above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every field of the models, with its path in lab.yaml."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path, field
        if inner := model_in(field.annotation):
            yield from fields_of(inner, path)


FIELDS = dict(fields_of(Lab))
IN_A_COMMENT = ("target", "sandbox")


def test_it_is_a_lab(text):
    lab = parse_lab(text, "examples/proxmox.yaml")
    assert lab.target.kind == "proxmox"
    assert lab.platform.docker.gpu is not None
    assert {guest.ip for guest in lab.guests()} == {"192.0.2.11", "192.0.2.12", "192.0.2.21", "192.0.2.22"}


def test_the_models_have_the_fields_that_this_test_thinks_of():
    assert len(FIELDS) > 70
    assert ("platform", "docker", "gpu", "audio_iommu_group") in FIELDS
    assert ("target", "sandbox", "ssh_port") in FIELDS


@pytest.mark.parametrize("path", [path for path in FIELDS if path[:2] != IN_A_COMMENT], ids=".".join)
def test_every_setting_is_in_it(document, path):
    node = document
    for part in path:
        assert part in node, f"{'.'.join(path)} is not in examples/proxmox.yaml"
        node = node[part]


@pytest.mark.parametrize("path", [path for path in FIELDS if path[:2] == IN_A_COMMENT], ids=".".join)
def test_the_other_target_is_in_its_comments(text, path):
    assert any(line.strip().removeprefix("#").strip().startswith(f"{path[-1]}:") for line in text.splitlines() if "#" in line)


def lines_of(node: Any) -> Iterator[tuple[str, int]]:
    """Every key with its line, from 0."""
    for key, value in node.items():
        yield str(key), node.lc.key(key)[0]
        if isinstance(value, Mapping):
            yield from lines_of(value)


def test_every_setting_is_explained_where_it_comes_first(text, document):
    lines = text.splitlines()
    explained: set[str] = set()
    for key, line in sorted(lines_of(document), key=lambda item: item[1]):
        if lines[line - 1].strip().startswith("#"):
            explained.add(key)
        # `proxmox` is explained by `target` above it.
        assert key in explained | {"proxmox"}, f"{key} in line {line + 1} has no comment"


def test_the_defaults_that_the_comments_name_are_the_models(text, document):
    """Where a comment ends in `Default: VALUE`, a plain value, the model says the same."""
    lines = text.splitlines()
    compared = 0
    for path, field in FIELDS.items():
        if path[:2] == IN_A_COMMENT or model_in(field.annotation) or field.is_required():
            continue
        node = document
        for part in path[:-1]:
            node = node[part]
        above = lines[node.lc.key(path[-1])[0] - 1]
        said = above.rpartition("Default: ")[2].strip() if "Default: " in above else ""
        if not said or " " in said.rstrip(".") or said.startswith("none"):
            continue
        default = field.default
        assert said == (str(default).lower() if isinstance(default, bool) else str(default)), ".".join(path)
        compared += 1
    assert compared >= 20


def test_only_sample_addresses_and_names(text):
    for address in re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text):
        assert address.startswith(("192.0.2.", "127.86.", "198.18.86."))
