"""One guest of a lab, to be asked through the hypervisor: it needs no state to be readable and no Vault to be open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.engine.lab import OpenLab
from labctl.engine.target import running_target
from labctl.model.contracts import GuestOutput
from labctl.model.errors import AdapterError, UserError, nearest
from labctl.model.lab import GuestSpec, Lab

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox


@dataclass(frozen=True, slots=True)
class CalledGuest:
    """A guest that is there.

    Attributes:
        spec: The guest as described.
        hypervisor: Whose agent calls reach it.
    """

    spec: GuestSpec
    hypervisor: Proxmox

    @property
    def vmid(self) -> int:
        """Its id."""
        return self.spec.settings.vmid

    def address(self) -> str:
        """Its address: the one that it was given, else what its agent tells.

        Raises:
            AdapterError: It tells none.
        """
        addresses = (self.spec.ip,) if self.spec.ip else self.hypervisor.addresses(self.vmid)
        if not addresses:
            raise AdapterError("has no address yet", where=f"guest {self.spec.name}", hint="Its DHCP server gave it none.")
        return addresses[0]

    def output(self, address: str) -> GuestOutput:
        """As its layer publishes it."""
        return GuestOutput(vmid=self.vmid, address=address)


def known_guest(lab: Lab, name: str) -> GuestSpec:
    """One guest of the lab by name.

    Raises:
        UserError: There is none; the nearest is named.
    """
    names = [guest.name for guest in lab.guests()]
    if name not in names:
        raise UserError(f"the lab has no guest {name!r}", hint=nearest(name, names))
    return lab.guest(name)


@contextmanager
def call_guest(found: OpenLab, name: str) -> Iterator[CalledGuest]:
    """Connects to the hypervisor and finds the guest.

    Raises:
        UserError: The lab has no such guest, it is not up, or its VMID belongs to somebody else.
        LabError: The hypervisor is out of reach.
    """
    from labctl.adapters.proxmox import GuestMissing, Proxmox

    spec = known_guest(found.lab, name)
    target = running_target(found.lab, found.paths)
    if target is None:
        raise UserError("the sandbox is not running", hint="`labctl sandbox start` starts it with its guests.")
    with Proxmox.connect(target.endpoint, target.token_id, target.token, target.ca_file) as hypervisor:
        try:
            entry = hypervisor.guest(spec.settings.vmid)
        except GuestMissing as error:
            raise UserError(f"guest {name} is not up", hint="`labctl up` brings it up.") from error
        if not {"labctl", found.lab.name} <= set(entry.tags):
            raise UserError(
                f"VMID {spec.settings.vmid} belongs to guest {entry.name!r}, which is not this lab's",
                hint=f"`labctl up` has not made guest {name} yet.",
            )
        if entry.status != "running":
            raise UserError(f"guest {name} is {entry.status}", hint="`labctl up` starts it, once the layers below it are up.")
        yield CalledGuest(spec, hypervisor)
