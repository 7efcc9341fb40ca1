"""Opens the target: starts the sandbox, or finds the credentials of a real Proxmox VE in the environment."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.engine.paths import LabPaths, replace_file
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.secret import Secret

if TYPE_CHECKING:
    from labctl.sandbox.choice import Choice
    from labctl.sandbox.supervisor import SandboxConfig, SandboxInfo

TOKEN_VARIABLE = "PROXMOX_VE_API_TOKEN"  # noqa: S105 - the name of a variable
_PASSED_ON = (
    "PROXMOX_VE_SSH_USERNAME",
    "PROXMOX_VE_SSH_PASSWORD",
    "PROXMOX_VE_SSH_PRIVATE_KEY",
    "PROXMOX_VE_SSH_AGENT",
    "PROXMOX_VE_SSH_AUTH_SOCK",
    "SSH_AUTH_SOCK",
)


@dataclass(frozen=True, slots=True)
class TargetSession:
    """A hypervisor that can be talked to.

    Attributes:
        endpoint: URL of the API, without a trailing slash.
        token_id: `user@realm!id`.
        token: Its value.
        ca_file: PEM of the authority to trust, None for the system's.
        environment: What the provider needs besides, by variable.
    """

    endpoint: str
    token_id: str
    token: Secret
    ca_file: Path | None
    environment: Mapping[str, str | Secret] = field(default_factory=dict)

    def provider_environment(self) -> dict[str, str | Secret]:
        """Variables for the provider bpg/proxmox."""
        return {TOKEN_VARIABLE: Secret(f"{self.token_id}={self.token.reveal()}"), **self.environment}


def open_target(lab: Lab, paths: LabPaths, say: Callable[[str], None], guests: Choice | None = None) -> TargetSession:
    """Starts the sandbox where it is the target, else reads the API token from the environment.

    Args:
        lab: The lab.
        paths: Where its things are.
        say: Where progress goes.
        guests: What runs behind the sandbox's guests, and why.

    Raises:
        UserError: The token is not set or malformed; the sandbox's port is taken.
    """
    return _open_sandbox(lab, paths, say, guests) if lab.target.sandbox else _open_proxmox(lab)


def running_target(lab: Lab, paths: LabPaths) -> TargetSession | None:
    """The target as it is now; None where it is a sandbox that does not run. Starts nothing.

    Raises:
        UserError: The token of a real Proxmox VE is not set or malformed.
    """
    if not lab.target.sandbox:
        return _open_proxmox(lab)
    from labctl.sandbox import supervisor

    info = supervisor.status(paths.sandbox)
    return _session_of(info) if info is not None and info.running else None


def _open_sandbox(lab: Lab, paths: LabPaths, say: Callable[[str], None], guests: Choice | None) -> TargetSession:
    from labctl.sandbox import supervisor

    config = sandbox_config(lab, guests)
    supervisor.require_same_guests(paths.sandbox, config)
    info = supervisor.wait_ready(paths.sandbox)
    if info is None or not info.running:
        info = begin_sandbox(paths, config, guests, say)
    return _session_of(info)


def begin_sandbox(paths: LabPaths, config: SandboxConfig, guests: Choice | None, say: Callable[[str], None]) -> SandboxInfo:
    """Starts the sandbox, and says what runs behind its guests.

    Raises:
        UserError: Its port is taken, or it runs with other settings.
        AdapterError: It does not come up.
    """
    from labctl.sandbox import supervisor

    if guests:
        say(guests.line)
    say(f"starting the sandbox on {config.address}:{config.api_port}")
    return supervisor.start(paths.sandbox, config, say=say)


def sandbox_config(lab: Lab, guests: Choice | None = None) -> SandboxConfig:
    """How the lab's sandbox is to run.

    Args:
        lab: The lab.
        guests: How its kind of guests was chosen.

    Raises:
        UserError: The lab's target is a real Proxmox VE.
    """
    from labctl.sandbox import supervisor

    settings = lab.target.sandbox
    if settings is None:
        raise UserError(
            f"lab {lab.name!r} is not on the sandbox", where="target", hint="`target: {sandbox: {}}` in lab.yaml makes it so."
        )
    return supervisor.SandboxConfig(
        node=lab.node,
        bridge=lab.network.bridge,
        address=str(settings.address),
        api_port=settings.api_port,
        ssh_port=settings.ssh_port,
        network=str(settings.network),
        guests="container" if lab.boots else "appliance",
        guest_network=str(settings.guest_network),
        wish=guests.wish if guests else "auto",
    )


def _session_of(info: SandboxInfo) -> TargetSession:
    return TargetSession(
        endpoint=info.endpoint,
        token_id=info.token_id,
        token=info.token,
        ca_file=info.ca_file,
        environment={
            "PROXMOX_VE_SSH_USERNAME": info.ssh_username,
            "PROXMOX_VE_SSH_PRIVATE_KEY": Secret(info.ssh_private_key_file.read_text()),
        },
    )


def _open_proxmox(lab: Lab) -> TargetSession:
    settings = lab.target.proxmox
    assert settings is not None
    value = os.environ.get(TOKEN_VARIABLE, "")
    identifier, _, token = value.partition("=")
    if not token or "!" not in identifier:
        raise UserError(
            f"{TOKEN_VARIABLE} is {'malformed' if value else 'not set'}",
            where="target.proxmox",
            hint=f"export {TOKEN_VARIABLE}='user@realm!tokenid=secret'; docs/proxmox.md says how to make a token.",
        )
    ca_file = Path(settings.ca_file).expanduser() if settings.ca_file else None
    if ca_file and not ca_file.is_file():
        raise UserError(
            f"{ca_file} does not exist",
            where="target.proxmox.ca_file",
            hint="Copy /etc/pve/pve-root-ca.pem from the node.",
        )
    passed = {name: Secret(os.environ[name]) for name in _PASSED_ON if name in os.environ}
    return TargetSession(settings.endpoint.rstrip("/"), identifier, Secret(token), ca_file, passed)


def trust_bundle(paths: LabPaths, ca_files: tuple[Path, ...]) -> Path:
    """One PEM file with the system's authorities, the hypervisor's and the lab's own, for Terraform's processes.

    Go reads `SSL_CERT_FILE` for the API, and the S3 backend `AWS_CA_BUNDLE`; both replace the system's list, hence one file.
    """
    system = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or ""
    parts = [Path(system)] if system and Path(system).is_file() else []
    text = "\n".join(path.read_text().strip() for path in (*parts, *ca_files) if path.is_file()) + "\n"
    bundle = paths.home / "ca-bundle.pem"
    if not bundle.is_file() or bundle.read_text() != text:
        replace_file(bundle, text)
    return bundle
