"""Layer 3: what the lab is for, as Compose projects on guest `docker`. Its state lies in the object store."""

from __future__ import annotations

from typing import Any, ClassVar

from labctl.model.contracts import FoundationContract, PlatformContract, ServicesContract
from labctl.model.services import MlflowService, ServiceSpec
from labctl.model.stackcontext import StackContext
from labctl.services import ServiceRequest, compose_text
from stacks.cdk import App
from stacks.constructs import (
    ComposeProject,
    LabctlProvider,
    LabStack,
    Upstream,
    local_path,
    local_state,
    publish,
    s3_backend,
    s3_state,
)
from stacks.foundation import Foundation
from stacks.platform import Platform


class Services(LabStack):
    """The services that lab.yaml names, each after those that it needs."""

    layer: ClassVar[str] = "services"

    def __init__(self, app: App, context: StackContext, foundation: Foundation, platform: Platform) -> None:
        super().__init__(app, context)
        self.add_dependency(foundation)
        self.add_dependency(platform)
        lab = context.lab
        s3_backend(self, self.layer)
        store = Upstream(
            FoundationContract,
            local_state(
                self, foundation.layer, local_path(foundation.layer, context.state_dir, context.outdir, reader=self.layer)
            ),
        )
        below = Upstream(PlatformContract, s3_state(self, platform.layer))
        LabctlProvider(self, docker_host=below.string("docker_host"))

        address = below.entry("guests", "docker", "address")
        specs = lab.service_specs()
        projects: dict[str, ComposeProject] = {}
        for spec in specs:
            request = ServiceRequest(
                lab=lab,
                service=spec,
                address=address,
                s3_endpoint=store.string("s3_endpoint"),
                s3_region=store.string("s3_region"),
                authority_pem=context.authority_pem,
            )
            projects[spec.name] = ComposeProject(
                self,
                spec.name,
                text=compose_text(request),
                secrets=spec.kind.secrets,
                wait_timeout_s=spec.kind.wait_timeout_s,
                needs=[projects[need] for need in spec.needs],
            )

        publish(
            self,
            ServicesContract,
            {
                "endpoints": {spec.name: _endpoint(spec, address) for spec in specs},
                "databases": {spec.name: spec.settings.database for spec in specs if isinstance(spec.settings, MlflowService)},
            },
            depends_on=list(projects.values()),
        )


def _endpoint(spec: ServiceSpec, address: str) -> dict[str, Any]:
    reached = f"{address}:{spec.settings.port}"
    return {
        "address": reached,
        "url": f"{spec.kind.scheme}://{reached}" if spec.kind.scheme else "",
        "inside": f"{spec.name}:{spec.kind.inside}",
        "network": spec.network,
    }
