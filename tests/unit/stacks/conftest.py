from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.stackcontext import StackContext
from labctl.synth import synthesise

LABS = Path(__file__).parents[2] / "golden" / "stacks"

Documents = dict[str, Any]


@pytest.fixture
def lab() -> Callable[..., Lab]:
    """Reads a golden lab; `change` replaces text in it first."""

    def read(name: str, *change: tuple[str, str]) -> Lab:
        text = (LABS / name / "lab.yaml").read_text()
        for old, new in change:
            assert old in text
            text = text.replace(old, new)
        return parse_lab(text)

    return read


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., StackContext]:
    def make(lab: Lab, **fields: Any) -> StackContext:
        home = tmp_path / ".labctl" / lab.name
        return StackContext(**{"lab": lab, "authority_pem": "", "state_dir": home / "state", "outdir": home} | fields)

    return make


@pytest.fixture
def documents(context: Callable[..., StackContext]) -> Callable[..., Documents]:
    """Synthesises a lab; gives the stacks' documents by name."""

    def make(lab: Lab, **fields: Any) -> Documents:
        return {s.name: json.loads(s.json.read_text()) for s in synthesise(context(lab, **fields)).stacks}

    return make
