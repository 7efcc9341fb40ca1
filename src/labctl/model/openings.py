"""The TCP ports that guests answer on for others. Their firewalls open these and no others."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from labctl.model.lab import Lab


@dataclass(frozen=True, slots=True)
class Opening:
    """A TCP port that a guest answers on.

    Attributes:
        port: The port.
        purpose: Who needs it; the comment of its firewall rule.
    """

    port: int
    purpose: str


def openings(lab: Lab, guest: str) -> tuple[Opening, ...]:
    """Those of one guest of the lab."""
    if guest == "gitlab":
        return _gitlab(lab)
    if guest == "docker":
        return _docker(lab)
    return (Opening(lab.guest(guest).role.port, {"vault": "Vault API", "store": "S3 API"}[guest]),)


def _docker(lab: Lab) -> tuple[Opening, ...]:
    services = (Opening(spec.settings.port, f"service {spec.name}") for spec in lab.service_specs())
    apps = (Opening(port, f"app {spec.name}") for spec in lab.app_specs() for port in spec.settings.ports)
    return (Opening(22, "SSH, which carries the Docker API too"), *services, *apps)


def _gitlab(lab: Lab) -> tuple[Opening, ...]:
    url = urlsplit(lab.gitlab_url)
    return (
        Opening(url.port or (443 if url.scheme == "https" else 80), "GitLab"),
        Opening(22, "Git over SSH"),
        Opening(lab.platform.gitlab.registry_port, "container registry"),
    )
