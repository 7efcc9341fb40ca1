"""Step: the guests' certificates. The private key never leaves its guest; labctl signs the guest's request."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

from labctl.adapters.pki import Authority, covers, expires_in, serves, sign
from labctl.adapters.proxmox import Proxmox
from labctl.model.contracts import GuestOutput
from labctl.model.errors import AdapterError
from labctl.model.lab import GuestSpec

RENEW_BEFORE = timedelta(days=30)
POLL_S = 1.0
_LOOK_EVERY = 5


class Booting(Protocol):
    """A guest's first boot."""

    def waiting(self) -> AbstractContextManager[None]:
        """Entered around a wait, the one part that a signal may cut off."""

    def require_no_failure(self) -> None:
        """Raises where it has failed."""

    def wait_for_boot(self) -> None:
        """Returns when it is done."""


def ensure_certificate(
    hypervisor: Proxmox,
    guest: GuestSpec,
    output: GuestOutput,
    authority_pem: str,
    authority: Callable[[], Authority],
    *,
    timeout_s: float,
    say: Callable[[str], None],
    booting: Booting,
) -> bool:
    """Signs the guest's certificate where it is missing, about to expire or for another name; says whether it did.

    Args:
        hypervisor: Whose agent calls reach the guest.
        guest: The guest as described.
        output: The guest as its layer published it.
        authority_pem: The authority's certificate.
        authority: Gives the authority with its key; called only when something is to be signed.
        timeout_s: How long to wait for the guest's first boot to make its request.
        say: Where progress goes.
        booting: The guest's first boot, which may still be going on.

    Raises:
        AdapterError: The guest made no request in time, or one for other names.
        UserError: The authority's key is needed and no operator's key is at hand.
    """
    names, addresses = (guest.fqdn, guest.name), (output.address,)
    current = hypervisor.file_read(output.vmid, guest.role.cert, missing_ok=True)
    if current:
        pem = current.decode()
        if covers(pem, names, addresses, authority_pem) and expires_in(pem) > RENEW_BEFORE:
            booting.wait_for_boot()
            _serve(hypervisor, guest, output, pem)
            return False
    say(f"signing the certificate of guest {guest.name}")
    with booting.waiting():
        request = _wait_for_request(hypervisor, guest, output, timeout_s, booting)
    signed = sign(request, authority(), names=names, addresses=addresses)
    hypervisor.file_write(output.vmid, guest.role.cert, signed + authority_pem, mode=0o644)
    # Before that, the service may not be installed yet; started too often in vain, systemd would give it up.
    booting.wait_for_boot()
    action = "reload-or-restart" if current else "restart"
    hypervisor.exec(output.vmid, ["systemctl", action, guest.role.unit]).check(f"systemctl {action} {guest.role.unit}")
    return True


def _serve(hypervisor: Proxmox, guest: GuestSpec, output: GuestOutput, pem: str) -> None:
    """Makes the guest's service show the certificate that lies there: an earlier run may have been cut off before that."""
    shown = serves(output.address, guest.role.port, pem)
    if shown is None:
        # A unit that still lacks something, as the store its credentials, stays off; its own step starts it.
        hypervisor.exec(output.vmid, ["systemctl", "start", guest.role.unit])
    elif not shown:
        hypervisor.exec(output.vmid, ["systemctl", "reload-or-restart", guest.role.unit]).check(f"reload of {guest.role.unit}")


def _wait_for_request(hypervisor: Proxmox, guest: GuestSpec, output: GuestOutput, timeout_s: float, booting: Booting) -> str:
    limit = time.monotonic() + timeout_s
    turns = 0
    while True:
        content = hypervisor.file_read(output.vmid, guest.role.csr, missing_ok=True)
        if content:
            return content.decode()
        if time.monotonic() > limit:
            raise AdapterError(
                f"made no certificate request ({guest.role.csr}) in {timeout_s:.0f} s",
                where=f"guest {guest.name}",
                hint="Its first boot failed or is slow: look at /var/log/cloud-init-output.log in the guest, then run again.",
            )
        turns += 1
        if turns % _LOOK_EVERY == 0:
            booting.require_no_failure()
        time.sleep(POLL_S)
