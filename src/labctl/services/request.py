"""What a Compose file is made from."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.model.lab import Lab
from labctl.model.services import ServiceSpec


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """Input of `compose_text`. Nothing in it is secret.

    Attributes:
        lab: The lab.
        service: The service that the file is for.
        address: The Docker guest's address, or a Terraform token.
        s3_endpoint: URL of the object store, or a Terraform token.
        s3_region: Its region, or a Terraform token.
        authority_pem: Certificate of the lab's authority, which the service trusts; "" before there is one.
    """

    lab: Lab
    service: ServiceSpec
    address: str
    s3_endpoint: str = ""
    s3_region: str = ""
    authority_pem: str = ""
