"""Where a lab runs: a real Proxmox VE, or the embedded sandbox. Part of the models behind `lab.yaml`."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from labctl.model.settings import Name, Settings

DatastoreId = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]$")]
Port = Annotated[int, Field(ge=1, le=65535)]

SANDBOX_NETWORK = IPv4Network("127.86.0.0/24")
GUEST_NETWORK = IPv4Network("198.18.86.0/24")
"""Of 198.18.0.0/15, which is for tests of networks (RFC 2544) and so hardly ever somebody's own."""


class Datastores(Settings):
    """Which datastore holds what. `snippets` and `images` must allow those content types."""

    snippets: DatastoreId = "local"
    images: DatastoreId = "local"
    disks: DatastoreId = "local-lvm"


class Ssh(Settings):
    """SSH to the node: only for uploading snippets, which the API cannot do."""

    address: str = Field("", description="empty: the endpoint's host")
    port: Port = 22
    username: str = "root"


class Proxmox(Settings):
    """A real Proxmox VE. The API token and the SSH key come from the environment, never from this file."""

    endpoint: str = Field(pattern=r"^https://[A-Za-z0-9.\-\[\]:]+/?$")
    node: Name = "pve"
    ca_file: str = Field("", description="PEM of the authority that signed the API's certificate; empty: the system's")
    datastores: Datastores = Datastores()
    ssh: Ssh = Ssh()


class Sandbox(Settings):
    """The embedded sandbox. Several labs on one machine need different networks."""

    network: IPv4Network = Field(SANDBOX_NETWORK, strict=False, description="a loopback network, /24")
    guests: Literal["auto", "container", "appliance"] = Field(
        "auto", description="container: they boot, in a Docker engine; appliance: they do not; auto: container where that works"
    )
    guest_network: IPv4Network = Field(GUEST_NETWORK, strict=False, description="the network of container guests, /24")
    api_port: Port = 8006
    ssh_port: Port = 8022

    @field_validator("guest_network")
    @classmethod
    def _beyond_loopback(cls, value: IPv4Network) -> IPv4Network:
        if value.is_loopback or value.is_multicast or value.prefixlen != 24:
            raise ValueError("the container guests' network is a /24 outside 127.0.0.0/8, as 198.18.86.0/24")
        return value

    @field_validator("network")
    @classmethod
    def _loopback(cls, value: IPv4Network) -> IPv4Network:
        if not value.is_loopback or value.prefixlen != 24:
            raise ValueError("the sandbox's network is a /24 inside 127.0.0.0/8, as 127.86.0.0/24")
        return value

    @property
    def address(self) -> IPv4Address:
        """The hypervisor's own address."""
        return self.network.network_address + 1

    @property
    def subnet(self) -> IPv4Network:
        """The network that the guests are on. `auto` that nobody has decided yet counts as appliance."""
        return self.guest_network if self.guests == "container" else self.network


class Target(Settings):
    """Where the lab runs: exactly one of the two."""

    sandbox: Sandbox | None = None
    proxmox: Proxmox | None = None

    @field_validator("sandbox", "proxmox", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return {} if value is None else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.sandbox is None) == (self.proxmox is None):
            raise ValueError("name exactly one target: sandbox or proxmox")
        return self

    @property
    def kind(self) -> Literal["sandbox", "proxmox"]:
        """`sandbox` or `proxmox`."""
        return "sandbox" if self.sandbox else "proxmox"
