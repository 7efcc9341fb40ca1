"""From the lab to what is provisioned: where the service is, and whether it is there at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.engine import provision
from labctl.engine.lab import OpenLab
from labctl.engine.paths import LabPaths
from labctl.engine.provisioning import Server
from labctl.model.errors import UserError
from labctl.model.labfile import parse_lab
from labctl.model.state import StackState

LAB = "name: lab\ntarget: {sandbox: {guests: container}}\nservices: {postgres: {superuser: boss}, kafka: {}, ollama: {}}\n"
ENDPOINTS = {
    "postgres": {"address": "198.18.86.202:5433", "url": "postgresql://198.18.86.202:5433"},
    "kafka": {"address": "198.18.86.202:9092", "url": ""},
    "ollama": {"address": "198.18.86.202:11434", "url": "http://198.18.86.202:11434"},
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenLab:
    closed: list[bool] = []
    session = SimpleNamespace(vault="the Vault", close=lambda: closed.append(True))
    monkeypatch.setattr(provision, "foundation_outputs", lambda _found: {})
    monkeypatch.setattr(provision, "lab_session", lambda *_: session)

    @contextmanager
    def docker_engine(*_: object) -> Iterator[str]:
        yield "the engine"

    monkeypatch.setattr(provision, "docker_engine", docker_engine)
    outputs(monkeypatch, {"endpoints": ENDPOINTS})
    return OpenLab(parse_lab(LAB), LabPaths(tmp_path / "lab.yaml", "lab"))


def outputs(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Any] | None) -> None:
    monkeypatch.setattr(provision, "remote_state", lambda _session, _paths, stack: {"services": StackState(outputs=found)}[stack])


def test_the_services_address_and_superuser_reach_the_one_who_provisions(lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(provision.provisioning, "ensure_database", lambda *given: seen.append(given))
    monkeypatch.setattr(provision.provisioning, "ensure_topic", lambda *given, **more: seen.append((*given, more)))
    provision.provision_postgres(lab, "shop", "orders")
    provision.provision_kafka(lab, "orders", partitions=3, group="billing", more=True)
    assert seen == [
        ("the Vault", "the engine", "shop", "orders", "boss", Server("198.18.86.202", 5433)),
        (
            "the Vault",
            "the engine",
            "orders",
            Server("198.18.86.202", 9092),
            {"partitions": 3, "group": "billing", "more": True},
        ),
    ]


def test_ollama_is_asked_at_its_url_for_a_model_with_a_tag(lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(
        provision.provisioning, "ensure_model", lambda _vault, ollama, model, _tell: seen.append((ollama.url, model))
    )
    provision.provision_ollama(lab, "llama3.2")
    assert seen == [("http://198.18.86.202:11434", "llama3.2:latest")]


@pytest.mark.parametrize("found", [None, {}, {"endpoints": {}}])
def test_a_service_that_is_on_and_not_up_is_told_as_such(
    lab: OpenLab, monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Any] | None
) -> None:
    outputs(monkeypatch, found)
    for run in (
        lambda: provision.provision_postgres(lab, "shop", "orders"),
        lambda: provision.provision_kafka(lab, "orders"),
        lambda: provision.provision_ollama(lab, "llama3.2"),
    ):
        with pytest.raises(UserError, match="is not up") as told:
            run()
        assert "`labctl up --layer services`" in told.value.hint
