"""The provider itself: its configuration, and its resources."""

from __future__ import annotations

from typing import Any

from labctl.adapters.compose import ComposeEngine, EngineUnreachable
from labctl.model.ownprovider import OWN_PROVIDER
from labctl.provider.access import Engines
from labctl.provider.compose_project import ComposeProjectResource
from labctl.provider.framework import Attribute, Provider, Schema, String, Unknown
from labctl.provider.image import ImageResource


class LabctlProvider(Provider):  # type: ignore[misc]
    """What Terraform configures once a run. The address of the engine is all that it is told; the rest is in the environment."""

    def __init__(self) -> None:
        self._engines = Engines()
        self._docker_host: str | None = None

    def engine(self) -> ComposeEngine:
        """The engine.

        Raises:
            EngineUnreachable: Its address is not known yet.
            UserError: What SSH needs is not in the environment.
        """
        if self._docker_host is None:
            raise EngineUnreachable("the Docker engine's address is not known yet", hint="The layer that brings it comes first.")
        return self._engines.at(self._docker_host)

    def get_model_prefix(self) -> str:
        """As the framework asks."""
        return "labctl_"

    def full_name(self) -> str:
        """As the framework asks."""
        return OWN_PROVIDER

    def get_provider_schema(self, _diagnostics: Any) -> Any:
        """As the framework asks."""
        described = "As `DOCKER_HOST`: ssh://user@host, tcp://host:port with DOCKER_CERT_PATH, or unix://path."
        return Schema(attributes=[Attribute("docker_host", String(), optional=True, description=described)])

    def validate_config(self, _diagnostics: Any, _config: dict[str, Any]) -> None:
        """As the framework asks."""

    def configure_provider(self, _diagnostics: Any, config: dict[str, Any]) -> None:
        """Takes the engine's address."""
        host = (config or {}).get("docker_host")
        self._docker_host = None if host is Unknown else str(host or "")

    def get_data_sources(self) -> list[type]:
        """None."""
        return []

    def get_resources(self) -> list[type]:
        """As the framework asks."""
        return [ComposeProjectResource, ImageResource]

    def close(self) -> None:
        """Ends the connections."""
        self._engines.close()
