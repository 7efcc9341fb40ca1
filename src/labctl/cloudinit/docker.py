"""Guest `docker`, and the Docker engine that guest `gitlab` has as well."""

from __future__ import annotations

import json

from labctl.cloudinit.base import SCRIPTS, UNITS, install, repository, script
from labctl.cloudinit.layerfiles import layer_text
from labctl.cloudinit.part import GuestFile, Part
from labctl.model.lab import Lab

_PACKAGES = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin")
_PRUNE = "lab-docker-prune"
_TOOLKIT = "https://nvidia.github.io/libnvidia-container"


def remote_access() -> Part:
    """Lets user `ops` use the engine: over SSH is the only way to reach it from outside."""
    return Part(commands=(("usermod", "--append", "--groups", "docker", "ops"),))


def docker_engine(lab: Lab) -> Part:
    """Docker's engine from Docker's own repository, never on the network, and a weekly clean-up of what nothing uses."""
    return Part(
        files=(
            GuestFile("/etc/docker/daemon.json", _daemon_json(lab)),
            GuestFile(f"{UNITS}/{_PRUNE}.service", layer_text(f"docker/{_PRUNE}.service")),
            GuestFile(f"{UNITS}/{_PRUNE}.timer", layer_text(f"docker/{_PRUNE}.timer")),
            script("base/add-repository"),
        ),
        commands=(
            repository(
                "docker",
                "https://download.docker.com/linux/@ID@/gpg",
                "https://download.docker.com/linux/@ID@",
                "@CODENAME@",
                "stable",
            ),
            *install(*_PACKAGES),
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", "--now", f"{_PRUNE}.timer"),
        ),
    )


def gpu_part(lab: Lab) -> Part:
    """The GPU's driver and its tools for containers, where the lab has a GPU."""
    if lab.platform.docker.gpu is None:
        return Part()
    return Part(
        files=(script("docker/install-gpu"),),
        commands=(
            repository("nvidia-container-toolkit", f"{_TOOLKIT}/gpgkey", f"{_TOOLKIT}/stable/deb/@ARCH@", "/"),
            ("apt-get", "update"),
            (f"{SCRIPTS}/install-gpu",),
        ),
    )


def _daemon_json(lab: Lab) -> str:
    settings = {
        # GitLab's registry speaks plain http.
        "insecure-registries": [lab.registry_host],
        "live-restore": True,
        "log-driver": "local",
        "log-opts": {"max-file": "3", "max-size": "10m"},
    }
    return json.dumps(settings, indent=2) + "\n"
