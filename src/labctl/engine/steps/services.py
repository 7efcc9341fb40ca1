"""After layer services: what apps need in a service is there before they are deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.engine.dockerguest import engine_of
from labctl.engine.provisioning import Server, ensure_topic
from labctl.model.projects import project_path

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun
    from labctl.model.contracts import ServicesContract

LAYER = "services"


def services_steps(run: LabRun, contract: ServicesContract, *, applied: bool) -> list[str]:
    """Makes the topics and consumer groups of the apps; returns what was changed, a line each.

    Args:
        run: The run.
        contract: What the layer publishes.
        applied: Whether this run changed the layer. Else what the Vault knows as provisioned is taken to be there: asking
            Kafka takes seconds.

    Raises:
        LabError: Kafka or the Vault says no, or is out of reach.
    """
    assert run.session is not None
    vault = run.session.vault
    topics = {topic: group for spec in run.lab.app_specs() for topic, group in spec.kind.topics.items()}
    known = {entry.path for entry in vault.list_secrets("projects/kafka/")} if topics else set()
    wanted = {
        topic: group
        for topic, group in topics.items()
        if applied or not {project_path("kafka", topic), project_path("kafka", topic, group)} <= known
    }
    if not wanted:
        return []
    host, _, port = contract.endpoints["kafka"].address.partition(":")
    changes: list[str] = []
    with run.interrupts.raising(), engine_of(run) as engine:
        for topic, group in wanted.items():
            run.say(f"looking for topic {topic}", LAYER, kind="progress")
            changes += ensure_topic(vault, engine, topic, Server(host, int(port)), group=group).changes
    return changes
