"""The contracts between layers: the only thing that the next layer may read.

A stack publishes exactly the fields of its contract as Terraform outputs; after each apply the real outputs are checked
against it (`check_outputs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labctl.model.errors import AdapterError


class GuestOutput(BaseModel):
    """A guest as a layer publishes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vmid: int = Field(ge=100)
    address: str = Field(pattern=r"^\d+\.\d+\.\d+\.\d+$")


class Contract(BaseModel):
    """Base of the contracts. `layer` is the layer that publishes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    layer: ClassVar[str]


class FoundationContract(Contract):
    """What foundation publishes."""

    layer: ClassVar[str] = "foundation"

    node: str
    pool_id: str
    image_file_id: str = Field(pattern=r"^[^:]+:import/.+")
    snippet_datastore: str
    disk_datastore: str
    vault_address: str = Field(pattern=r"^https://[^/]+:\d+$")
    s3_endpoint: str = Field(pattern=r"^https://[^/]+:\d+$")
    s3_region: str
    buckets: list[str] = Field(min_length=1)
    guests: dict[str, GuestOutput]


class PlatformContract(Contract):
    """What platform publishes."""

    layer: ClassVar[str] = "platform"

    gitlab_url: str = Field(pattern=r"^https?://")
    registry_host: str = Field(pattern=r"^[^/]+:\d+$")
    docker_host: str = Field(pattern=r"^ssh://[^@]+@[^/]+$")
    guests: dict[str, GuestOutput]


class ServiceOutput(BaseModel):
    """A service as its layer publishes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(pattern=r"^[^/:]+:\d+$")
    """Where it is reached from outside of the Docker guest."""
    url: str = Field(pattern=r"^([a-z]+://[^/]+)?$")
    """The same as a URL; "" where it is spoken to by no URL."""
    inside: str = Field(pattern=r"^[a-z0-9_]+:\d+$")
    """Where containers on its network reach it."""
    network: str
    """Its Docker network, for other Compose projects to join."""


class ServicesContract(Contract):
    """What services publishes."""

    layer: ClassVar[str] = "services"

    endpoints: dict[str, ServiceOutput]
    """By service, of those that are on."""
    databases: dict[str, str]
    """The PostgreSQL database of each service that has one."""


class AppContract(Contract):
    """What each app publishes. The layer has one stack an app."""

    layer: ClassVar[str] = "apps"

    app: str
    url: str = Field(pattern=r"^https?://[^/]+$")
    """Where its first replica is reached from outside of the Docker guest."""
    addresses: list[str] = Field(min_length=1)
    """Where each replica is reached from there."""
    inside: str = Field(pattern=r"^[a-z0-9_-]+:\d+$")
    """Where containers on its network reach it: any replica."""
    network: str
    """Its Docker network, for other Compose projects to join."""
    version: str
    image: str = Field(pattern=r"^[^@]+@sha256:[0-9a-f]{64}$")
    """The image that runs, by digest."""


CONTRACTS: dict[str, type[Contract]] = {
    contract.layer: contract for contract in (FoundationContract, PlatformContract, ServicesContract, AppContract)
}
"""By layer. All stacks of a layer publish the same fields."""


def check_outputs(layer: str, outputs: Mapping[str, Any]) -> Contract:
    """The layer's contract, filled with its real outputs.

    Raises:
        AdapterError: An output is missing, extra or breaks a rule; names the layer, the output and the rule.
    """
    try:
        return CONTRACTS[layer].model_validate(dict(outputs))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        problem = {"missing": "is missing", "extra_forbidden": "is not in the contract"}.get(first["type"], first["msg"])
        raise AdapterError(
            f"output {name!r} {problem}",
            where=layer,
            hint=f"The contract is {CONTRACTS[layer].__name__} in labctl.model.contracts; layers above were not started.",
        ) from error
