"""Where a sandbox lies and listens, and what a client needs to talk to it. Light: the command line imports this."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from labctl.model.errors import UserError
from labctl.model.secret import Secret
from labctl.sandbox.credentials import write_private

TOKEN_ID = "labctl@pve!labctl"  # noqa: S105  (an id, not a value)
SSH_USERNAME = "root"


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What a sandbox is told.

    Attributes:
        node: Name of the emulated node.
        bridge: Name of its bridge.
        address: Loopback address of the API and the SFTP server.
        api_port: Port of the API.
        ssh_port: Port of the SFTP server.
        network: The guests' network, within 127.0.0.0/8; a guest without a static address gets one of it.
        guests: What runs behind guests: `appliance` or `container`.
        guest_network: The network of container guests, in place of `network`.
        wish: What lab.yaml said of `guests` when this was written.
    """

    node: str = "pve"
    bridge: str = "vmbr0"
    address: str = "127.86.0.1"
    api_port: int = 8006
    ssh_port: int = 8022
    network: str = "127.86.0.0/24"
    guests: str = "appliance"
    guest_network: str = "198.18.86.0/24"
    wish: str = field(default="auto", compare=False)

    def __post_init__(self) -> None:
        try:
            loopback = ipaddress.ip_address(self.address).is_loopback and ipaddress.ip_network(self.network).is_loopback
        except ValueError as error:
            raise UserError(
                f"the sandbox's addresses are wrong: {error}", hint="Use an address and a network in 127.0.0.0/8."
            ) from error
        if not loopback:
            raise UserError(
                f"the sandbox listens on loopback addresses only, not on {self.address} with guests in {self.network}",
                hint="Use an address and a network in 127.0.0.0/8.",
            )

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """The network that guests are really on."""
        return ipaddress.IPv4Network(self.guest_network if self.guests == "container" else self.network)

    @property
    def endpoint(self) -> str:
        """Base URL of the API."""
        return f"https://{self.address}:{self.api_port}"

    def write(self, path: Path) -> None:
        """Keep it for the daemon."""
        write_private(path, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> SandboxConfig:
        """Read what `write` kept."""
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class GuestInfo:
    """A guest in short.

    Attributes:
        services: Its units with their state, as `systemctl is-active` says it.
    """

    vmid: int
    name: str
    role: str
    status: str
    address: str
    services: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """How to reach a sandbox. Credentials are made once and survive restarts.

    Attributes:
        running: Whether the daemon runs.
        pid: Its process, 0 where it does not run.
        endpoint: Base URL of the API.
        ca_file: Certificate of the authority that signed the API's certificate.
        token_id: Id of an API token with all rights.
        token: Its value.
        root_password: Password of root@pam, for tickets.
        ssh_address: Where SFTP listens.
        ssh_port: Its port.
        ssh_username: Who logs in there.
        ssh_private_key_file: An ed25519 key that may.
        ssh_host_key: The server's public key, as a line of authorized_keys.
        control_token: What goes into `X-Sandbox-Token` for `/_sandbox/*`.
        log_file: What the daemon said.
        guests: The guests that it has.
    """

    running: bool
    pid: int
    endpoint: str
    ca_file: Path
    token_id: str
    token: Secret
    root_password: Secret
    ssh_address: str
    ssh_port: int
    ssh_username: str
    ssh_private_key_file: Path
    ssh_host_key: str
    control_token: Secret
    log_file: Path
    guests: tuple[GuestInfo, ...] = ()
