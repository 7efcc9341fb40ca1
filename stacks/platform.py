"""Layer 2: GitLab and the Docker engine. Its state lies in the object store that foundation brought."""

from __future__ import annotations

from typing import ClassVar

from labctl.model.contracts import FoundationContract, PlatformContract
from labctl.model.stackcontext import StackContext
from stacks.cdk import App
from stacks.constructs import (
    Endpoints,
    HypervisorStack,
    LabGuest,
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
        gitlab = LabGuest(self, context, lab.guest("gitlab"), place, endpoints)
        gpu = lab.platform.docker.gpu
        docker = LabGuest(
            self,
            context,
            lab.guest("docker"),
            place,
            endpoints,
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
