"""The graph of a lab's stacks, and its drawings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.graphviz import svg
from labctl.engine.graph import FORMATS, lab_graph
from labctl.engine.lab import OpenLab, open_lab
from labctl.model.drawing import Node
from labctl.model.errors import AdapterError, UserError

NODES = (Node("a", "", (), "deployed"), Node("b", "", ("a",), "unknown"))


@pytest.fixture
def lab(tmp_path: Path) -> OpenLab:
    (tmp_path / "lab.yaml").write_text("name: lab\ntarget: {sandbox: {guests: appliance}}\n")
    return open_lab(tmp_path / "lab.yaml")


def synthesised(lab: OpenLab, **needs: list[str]) -> None:
    lab.paths.create()
    entries = {}
    for name, ups in needs.items():
        (lab.paths.stacks / name).mkdir()
        (lab.paths.stacks / name / "cdk.tf.json").write_text(json.dumps({"//": {"metadata": {"layer": name[:4]}}}))
        entries[name] = {
            "synthesizedStackPath": f"stacks/{name}/cdk.tf.json",
            "workingDirectory": f"stacks/{name}",
            "dependencies": ups,
        }
    (lab.paths.root / "manifest.json").write_text(json.dumps({"stacks": entries}))


def state(lab: OpenLab, resources: int, outputs: dict[str, Any]) -> None:
    one = {"mode": "managed", "type": "t", "name": "n", "instances": [{"attributes": {}}]}
    document = {
        "version": 4,
        "serial": 1,
        "resources": [one] * resources,
        "outputs": {k: {"value": v} for k, v in outputs.items()},
    }
    (lab.paths.state / "foundation.tfstate").write_text(json.dumps(document))


def test_a_lab_that_was_never_synthesised_is_drawn_without_a_trace(lab: OpenLab, tmp_path: Path) -> None:
    found = lab_graph(lab)
    assert [(node.name, node.layer, node.depends_on, node.status) for node in found.nodes] == [
        ("foundation", "foundation", (), "not deployed"),
        ("platform", "platform", ("foundation",), "not deployed"),
    ]
    assert found.problems == ()
    assert [path.name for path in tmp_path.iterdir()] == ["lab.yaml"]


def test_the_last_synthesis_is_what_is_drawn(lab: OpenLab) -> None:
    synthesised(lab, foundation=[], appsweb=["foundation"])
    assert [(node.name, node.layer, node.depends_on, node.status) for node in lab_graph(lab).nodes] == [
        ("foundation", "foun", (), "not deployed"),
        ("appsweb", "apps", ("foundation",), "not deployed"),
    ]


def test_a_damaged_synthesis_is_made_again(lab: OpenLab) -> None:
    lab.paths.create()
    (lab.paths.root / "manifest.json").write_text("{")
    assert [node.name for node in lab_graph(lab).nodes] == ["foundation", "platform"]


def test_what_cannot_be_read_is_unknown_and_said(lab: OpenLab) -> None:
    synthesised(lab, foundation=[], platform=["foundation"])
    state(lab, 3, {"vault_address": "https://127.86.0.1:1"})
    found = lab_graph(lab)
    assert [node.status for node in found.nodes] == ["deployed", "unknown"]
    assert "what stands on foundation cannot be read" in found.problems[0]


def test_a_foundation_that_publishes_nothing_leaves_the_others_unknown(lab: OpenLab) -> None:
    synthesised(lab, foundation=[], platform=["foundation"])
    state(lab, 3, {})
    found = lab_graph(lab)
    assert [node.status for node in found.nodes] == ["deployed", "unknown"]
    assert "Run `labctl up`" in found.problems[0]


def test_a_state_that_is_none_leaves_all_unknown(lab: OpenLab) -> None:
    synthesised(lab, foundation=[], platform=["foundation"])
    (lab.paths.state / "foundation.tfstate").write_text("{")
    found = lab_graph(lab)
    assert [node.status for node in found.nodes] == ["unknown", "unknown"]
    assert "the states cannot be read" in found.problems[0]


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "dot").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_svg_is_what_graphviz_makes_of_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", monkeypatch, f'echo "$@" > {tmp_path}/args; printf "<svg>"; cat; printf "</svg>"')
    drawn = FORMATS["svg"](NODES, 80)
    assert drawn == f"<svg>{FORMATS['dot'](NODES, 80)}</svg>"
    assert (tmp_path / "args").read_text() == "-Tsvg\n"


def test_without_graphviz_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="not on PATH") as caught:
        svg("digraph {}")
    assert "apt-get install graphviz" in caught.value.hint


def test_what_graphviz_complains_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", monkeypatch, "echo 'no such font' >&2; exit 3")
    with pytest.raises(AdapterError, match="exit code 3: no such font"):
        svg("digraph {}")


def test_the_text_keeps_to_the_width() -> None:
    assert FORMATS["text"](NODES, 80) == "b     unknown\n└─ a  deployed\n"
