"""Guest `docker`, and the Docker engine that guest `gitlab` has as well."""

from __future__ import annotations

import json

from labctl.cloudinit.base import SCRIPTS, UNITS, install, repository, script
from labctl.cloudinit.layerfiles import layer_text
from labctl.cloudinit.part import Command, GuestFile, Part
from labctl.model.lab import Lab

_PACKAGES = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin")
_PRUNE = "lab-docker-prune"
_TOOLKIT = "https://nvidia.github.io/libnvidia-container"


def remote_access() -> Part:
    """Lets user `ops` use the engine: over SSH is the only way to reach it from outside."""
    return Part(commands=(("usermod", "--append", "--groups", "docker", "ops"),))


def docker_engine(lab: Lab) -> Part:
    """Docker's engine, never on the network, and a weekly clean-up of what nothing uses."""
    own = lab.docker_source == "docker"
    return Part(
        files=(
            GuestFile("/etc/docker/daemon.json", _daemon_json(lab)),
            GuestFile(f"{UNITS}/{_PRUNE}.service", layer_text(f"docker/{_PRUNE}.service")),
            GuestFile(f"{UNITS}/{_PRUNE}.timer", layer_text(f"docker/{_PRUNE}.timer")),
            script("base/add-repository" if own else "docker/install-docker"),
        ),
        commands=(
            *(_docker_packages() if own else ((f"{SCRIPTS}/install-docker",),)),
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", "--now", f"{_PRUNE}.timer"),
        ),
    )


def _docker_packages() -> tuple[Command, ...]:
    """Docker's own packages from Docker's own repository."""
    base = "https://download.docker.com/linux/@ID@"
    return (repository("docker", f"{base}/gpg", base, "@CODENAME@", "stable"), *install(*_PACKAGES))


def gpu_part(lab: Lab) -> Part:
    """The GPU's driver and its tools for containers, where the lab has a GPU."""
    if lab.platform.docker.gpu is None:
        return Part()
    return Part(
        files=(script("docker/install-gpu"), script("base/add-repository")),
        commands=(
            repository("nvidia-container-toolkit", f"{_TOOLKIT}/gpgkey", f"{_TOOLKIT}/stable/deb/@ARCH@", "/"),
            ("apt-get", "update"),
            (f"{SCRIPTS}/install-gpu",),
        ),
    )


def _daemon_json(lab: Lab) -> str:
    settings: dict[str, object] = {
        # GitLab's registry speaks plain http, as does the sandbox's, which has the images of the lab's services.
        "insecure-registries": [lab.registry_host, *([lab.sandbox_server] if lab.sandbox_server else [])],
        "live-restore": True,
        "log-driver": "local",
        "log-opts": {"max-file": "3", "max-size": "10m"},
    }
    if lab.target.sandbox:
        # A guest of the sandbox is a container. On a host with cgroups of version 1, the engine would make its groups beside the
        # guest's, outside of its limits; systemd makes them inside.
        settings["exec-opts"] = ["native.cgroupdriver=systemd"]
    return json.dumps(settings, indent=2) + "\n"
