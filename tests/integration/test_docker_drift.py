"""What a real engine has that no project owns."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.adapters.compose import ComposeEngine, EngineUnreachable, LocalShell, deploying
from labctl.model.compose import ComposeProject
from labctl.model.drift import Severity
from labctl.model.drift.docker import compare_engine
from labctl.model.secret import Secret
from tests.dockercompose import IMAGE, POLL_S, PREFIX, SETTLE_S, clear, docker

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("compose")]


@pytest.fixture
def name() -> Iterator[str]:
    """A name for what a test makes, which goes at the end."""
    found = f"{PREFIX}-{uuid.uuid4().hex[:8]}"
    yield found
    clear(found)
    for made in docker("ps", "-aq", "--filter", f"name={found}").split():
        docker("rm", "-f", made)
    docker("network", "rm", f"{found}-net", check=False)
    docker("volume", "rm", f"{found}-vol", check=False)


def test_what_runs_by_hand_is_told_from_what_projects_have(
    compose_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "SETTLE_S", SETTLE_S)
    monkeypatch.setattr(deploying, "POLL_S", POLL_S)
    engine = ComposeEngine(LocalShell(path=[compose_path]))
    sleep = {"image": IMAGE, "command": ["sleep", "900"], "stop_signal": "SIGKILL"}
    text = json.dumps({"services": {"web": {**sleep, "volumes": ["kept:/kept"]}}, "volumes": {"kept": {}}})
    engine.apply(ComposeProject(name, text, {}, Secret("key"), wait_s=30.0))
    docker("run", "-d", "--name", f"{name}-hand", "--network", "none", "--stop-signal", "KILL", IMAGE, "sleep", "900")
    docker("run", "-d", "--name", f"{name}-open", "-p", "0.0.0.0::80", "-p", "127.0.0.1::81", IMAGE, "sleep", "900")
    docker("create", "--name", f"{name}-idle", "-v", "/etc:/host:ro", IMAGE, "true")
    docker("network", "create", f"{name}-net")
    docker("volume", "create", f"{name}-vol")

    there = engine.inventory()
    by_name = {one.name: one for one in there.containers}
    assert by_name[f"{name}-web-1"].project == name
    (port,) = by_name[f"{name}-open"].ports
    assert port.endswith("/tcp")
    found, notes = compare_engine([name], there)
    # Others use this engine too.
    own = {one.id: one.severity for one in found if name in one.id}
    assert own == {
        f"container/{name}-hand": Severity.LOW,
        f"container/{name}-open": Severity.HIGH,
        f"container/{name}-idle": Severity.HIGH,
    }
    mine = [note for note in notes if name in note]
    assert mine == [
        f"network {name}-net on guest docker is of no Compose project",
        f"volume {name}-vol on guest docker is of no Compose project",
    ]
    foreign, _notes = compare_engine([], there)
    assert f"project/{name}" in {one.id for one in foreign}


def test_an_engine_that_is_not_there_is_said(compose_path: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachable) as caught:
        ComposeEngine(LocalShell(f"unix://{tmp_path}/none.sock", path=[compose_path])).inventory()
    assert "systemctl start docker" in caught.value.hint
