"""Layer 2: GitLab and the Docker engine. Its state lies in the object store that foundation brought."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from labctl.model.contracts import FoundationContract, PlatformContract
from labctl.model.lab import Lab
from labctl.model.stackcontext import StackContext
from stacks.cdk import App
from stacks.constructs import (
    Endpoints,
    HypervisorStack,
    LabGuest,
    Opening,
    Place,
    Upstream,
    gpu_mappings,
    local_path,
    local_state,
    publish,
    s3_backend,
)
from stacks.foundation import Foundation


class Platform(HypervisorStack):
    """Where code lives and containers run."""

    layer: ClassVar[str] = "platform"

    def __init__(self, app: App, context: StackContext, foundation: Foundation) -> None:
        super().__init__(app, context)
        self.add_dependency(foundation)
        lab = context.lab
        s3_backend(self, self.layer)
        below = Upstream(
            FoundationContract,
            local_state(
                self, foundation.layer, local_path(foundation.layer, context.state_dir, context.outdir, reader=self.layer)
            ),
        )

        place = Place(
            node=below.string("node"),
            pool_id=below.string("pool_id"),
            image_file_id=below.string("image_file_id"),
            snippet_datastore=below.string("snippet_datastore"),
            disk_datastore=below.string("disk_datastore"),
        )
        endpoints = Endpoints(
            vault_address=below.string("vault_address"),
            s3_endpoint=below.string("s3_endpoint"),
            s3_region=below.string("s3_region"),
        )
        gitlab = LabGuest(self, context, lab.guest("gitlab"), place, endpoints, openings=_gitlab_openings(lab))
        gpu = lab.platform.docker.gpu
        docker = LabGuest(
            self,
            context,
            lab.guest("docker"),
            place,
            endpoints,
            openings=_docker_openings(lab),
            gpu=gpu_mappings(self, lab.name, place.node, gpu) if gpu else (),
        )

        publish(
            self,
            PlatformContract,
            {
                "gitlab_url": lab.gitlab_url,
                "registry_host": lab.registry_host,
                "docker_host": f"ssh://ops@{docker.vm.ip}",
                "guests": {"gitlab": gitlab.vm.outputs, "docker": docker.vm.outputs},
            },
            depends_on=(gitlab.vm, docker.vm),
        )


def _docker_openings(lab: Lab) -> list[Opening]:
    services = [Opening(spec.settings.port, f"service {spec.name}") for spec in lab.service_specs()]
    apps = [Opening(port, f"app {spec.name}") for spec in lab.app_specs() for port in spec.settings.ports]
    return [Opening(22, "SSH, which carries the Docker API too"), *services, *apps]


def _gitlab_openings(lab: Lab) -> list[Opening]:
    url = urlsplit(lab.gitlab_url)
    return [
        Opening(url.port or (443 if url.scheme == "https" else 80), "GitLab"),
        Opening(22, "Git over SSH"),
        Opening(lab.platform.gitlab.registry_port, "container registry"),
    ]
