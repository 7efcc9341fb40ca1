"""Compose projects on the lab's Docker guest, by labctl's own provider.

The provider takes what it needs besides from its environment: `LABCTL_SSH_PRIVATE_KEY`, `LABCTL_SSH_KNOWN_HOSTS`,
`LABCTL_SSH_HOST_ALIAS`, and `VAULT_ADDR`, `VAULT_TOKEN`, `VAULT_CACERT`. No secret passes through a stack: a project names where
in the Vault each of its secrets lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constructs import Construct

from labctl.model.ownprovider import OWN_PROVIDER, OWN_PROVIDER_VERSION
from stacks.cdk import TerraformProvider, TerraformProviderGeneratorMetadata
from stacks.constructs.resource import Resource


class LabctlProvider(TerraformProvider):
    """labctl's own provider, on one Docker engine.

    Args:
        scope: The stack.
        docker_host: The engine, as `DOCKER_HOST` names it; may be a reference.
    """

    def __init__(self, scope: Construct, *, docker_host: str) -> None:
        super().__init__(
            scope,
            "labctl",
            terraform_resource_type="labctl",
            terraform_generator_metadata=TerraformProviderGeneratorMetadata(
                provider_name="labctl", provider_version_constraint=OWN_PROVIDER_VERSION
            ),
            terraform_provider_source=OWN_PROVIDER,
        )
        self.add_override("docker_host", docker_host)


class ComposeProject(Resource):
    """A Compose project. Its volumes stay when it is destroyed.

    Args:
        scope: The stack.
        name: Its name, in Terraform too.
        text: The Compose file.
        secrets: The variables that the file takes secrets from, each with `path#field` in the Vault's mount.
        wait_timeout_s: How long its containers may take to be running and healthy.
        needs: Projects that must be there first.
        redeploy: Makes its containers anew when it changes.
        rolling: Whether its services are replaced one after the other, and put back where one does not come up.
        registry_auth: Registries that want credentials, each with its path in the Vault's mount; a host may be a reference.
    """

    def __init__(  # noqa: PLR0913 - the resource's own arguments
        self,
        scope: Construct,
        name: str,
        *,
        text: str,
        secrets: Mapping[str, str],
        wait_timeout_s: int,
        needs: Sequence[ComposeProject] = (),
        redeploy: str = "",
        rolling: bool = False,
        registry_auth: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            scope,
            "labctl_compose_project",
            name,
            {
                "name": name,
                "compose": text,
                "secrets": dict(secrets) or None,
                "wait_timeout": wait_timeout_s,
                "redeploy": redeploy or None,
                "rolling": rolling or None,
                "registry_auth": registry_auth,
            },
            depends_on=needs,
        )
