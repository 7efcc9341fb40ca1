"""A whole guest: its user-data, the machine, its firewall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constructs import Construct

from labctl.cloudinit import UserDataRequest, user_data
from labctl.model.lab import GuestSpec
from labctl.model.openings import openings
from labctl.model.stackcontext import StackContext
from stacks.constructs.firewall import Firewall
from stacks.constructs.gpu import PciMapping
from stacks.constructs.storage import Snippet
from stacks.constructs.vm import Place, VirtualMachine


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where guests find what foundation serves. Values may be references.

    Attributes:
        vault_address: URL of the Vault.
        s3_endpoint: URL of the object store.
        s3_region: Its region.
    """

    vault_address: str
    s3_endpoint: str
    s3_region: str


class LabGuest:
    """A guest of the lab with everything that belongs to it on the hypervisor.

    Args:
        scope: The stack that makes it.
        context: The lab and what its guests trust.
        guest: The guest.
        place: Where it is made.
        endpoints: What its user-data names.
        gpu: PCI devices that it is given.
    """

    def __init__(
        self,
        scope: Construct,
        context: StackContext,
        guest: GuestSpec,
        place: Place,
        endpoints: Endpoints,
        *,
        gpu: Sequence[PciMapping] = (),
    ) -> None:
        lab = context.lab
        self.snippet = Snippet(
            scope,
            guest.name,
            node=place.node,
            datastore=place.snippet_datastore,
            file_name=f"{lab.name}-{guest.name}-user-data.yaml",
            text=_user_data(context, guest, endpoints),
        )
        self.vm = VirtualMachine(scope, lab, guest, place, self.snippet, gpu=gpu, protect=context.prevent_destroy)
        self.firewall = Firewall(
            scope,
            guest.name,
            node=place.node,
            vm=self.vm,
            openings=openings(lab, guest.name),
            source=str(lab.subnet or ""),
            dhcp=not guest.ip,
        )


def _user_data(context: StackContext, guest: GuestSpec, endpoints: Endpoints) -> str:
    return user_data(
        UserDataRequest(
            lab=context.lab,
            guest=guest,
            authority_pem=context.authority_pem,
            ssh_keys=context.ssh_keys,
            vault_address=endpoints.vault_address,
            s3_endpoint=endpoints.s3_endpoint,
            s3_region=endpoints.s3_region,
            hosts={other.fqdn: other.ip for other in context.lab.guests() if other.ip},
        )
    )
