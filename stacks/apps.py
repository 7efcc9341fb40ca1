"""Layer 4: the apps, each in a stack of its own that bears its name. Their states lie in the object store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from labctl.model.apps import AppSpec
from labctl.model.catalogue import GITLAB_REGISTRY
from labctl.model.contracts import AppContract, PlatformContract, ServicesContract
from labctl.model.stackcontext import StackContext
from labctl.services import AppRequest, Reached, app_text
from stacks.cdk import App
from stacks.constructs import ComposeProject, Image, LabctlProvider, LabStack, Upstream, publish, s3_backend, s3_state
from stacks.platform import Platform
from stacks.services import Services

WAIT_S = 240
"""Pulling the image, importing MLflow and loading models take their time; a failed health check ends the wait before."""


class LabApp(LabStack):
    """An app: its image, built from the source in `layers/apps`, and its containers on guest `docker`.

    Args:
        app: The tree of stacks.
        context: What all stacks are made from.
        spec: The app.
        platform: Brings engine and registry.
        services: What it uses.
        others: The apps that are there already, by name.
    """

    layer: ClassVar[str] = "apps"

    def __init__(
        self,
        app: App,
        context: StackContext,
        spec: AppSpec,
        *,
        platform: Platform,
        services: Services,
        others: Mapping[str, LabApp],
    ) -> None:
        super().__init__(app, context, name=spec.name)
        for needed in (platform, services, *(others[name] for name in spec.kind.needs_apps)):
            self.add_dependency(needed)
        self.spec = spec
        s3_backend(self, spec.name)
        engine = Upstream(PlatformContract, s3_state(self, platform.name))
        below = Upstream(ServicesContract, s3_state(self, services.name)) if spec.kind.needs_services else None
        LabctlProvider(self, docker_host=engine.string("docker_host"))

        registry = engine.string("registry_host")
        auth = {registry: GITLAB_REGISTRY}
        image = Image(
            self,
            spec.name,
            repository=f"{registry}/{spec.repository}",
            source=f"apps/{spec.name}",
            module=context.outdir / "stacks" / spec.name,
            build_args=spec.build_args,
            registry_auth=auth,
        )
        uses = {name: Reached(others[name].inside, others[name].network) for name in spec.kind.needs_apps}
        for name in spec.kind.needs_services:
            assert below is not None
            uses[name] = Reached(below.entry("endpoints", name, "inside"), below.entry("endpoints", name, "network"))
        project = ComposeProject(
            self,
            spec.name,
            text=app_text(AppRequest(app=spec, image=image.reference, uses=uses)),
            secrets={},
            wait_timeout_s=WAIT_S,
            redeploy=spec.settings.redeploy,
            rolling=True,
            registry_auth=auth,
        )

        address = engine.entry("guests", "docker", "address")
        publish(
            self,
            AppContract,
            {
                "app": spec.name,
                "url": f"http://{address}:{spec.settings.port}",
                "addresses": [f"{address}:{port}" for port in spec.settings.ports],
                "inside": self.inside,
                "network": self.network,
                "version": image.version,
                "image": image.reference,
            },
            depends_on=(project,),
        )

    @property
    def inside(self) -> str:
        """`host:port` on its Docker network."""
        return f"{self.spec.name}:{self.spec.kind.inside}"

    @property
    def network(self) -> str:
        """Its Docker network."""
        return self.spec.network
