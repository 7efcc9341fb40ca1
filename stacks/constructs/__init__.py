"""Thin typed constructs over Terraform's resources: a class a thing, its arguments as Terraform's JSON syntax names them.

No provider bindings are generated: a test holds every argument that the stacks emit against the real provider's schema. What is
written here knows neither credentials nor files of this machine.
"""

from __future__ import annotations

from stacks.constructs.backend import local_backend, local_path, local_state, s3_backend, s3_state
from stacks.constructs.compose import ComposeProject, LabctlProvider
from stacks.constructs.contract import Upstream, publish
from stacks.constructs.firewall import Firewall
from stacks.constructs.gpu import PciMapping, gpu_mappings
from stacks.constructs.guest import Endpoints, LabGuest
from stacks.constructs.image import Image
from stacks.constructs.provider import ProxmoxProvider
from stacks.constructs.resource import Resource
from stacks.constructs.stack import HypervisorStack, LabStack
from stacks.constructs.storage import CloudImage, Pool, Snippet
from stacks.constructs.vm import Place, VirtualMachine

__all__ = [
    "CloudImage",
    "ComposeProject",
    "Endpoints",
    "Firewall",
    "HypervisorStack",
    "Image",
    "LabGuest",
    "LabStack",
    "LabctlProvider",
    "PciMapping",
    "Place",
    "Pool",
    "ProxmoxProvider",
    "Resource",
    "Snippet",
    "Upstream",
    "VirtualMachine",
    "gpu_mappings",
    "local_backend",
    "local_path",
    "local_state",
    "publish",
    "s3_backend",
    "s3_state",
]
