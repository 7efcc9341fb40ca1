"""Step: the guests' certificates. The private key never leaves its guest; labctl signs the guest's request."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

from labctl.adapters.pki import Authority, covers, expires_in, serves, sign
from labctl.adapters.proxmox import Proxmox
from labctl.model.contracts import GuestOutput
from labctl.model.errors import AdapterError
from labctl.model.lab import GuestSpec

RENEW_BEFORE = timedelta(days=30)
POLL_S = 1.0


def ensure_certificate(
    hypervisor: Proxmox,
    guest: GuestSpec,
    output: GuestOutput,
    authority_pem: str,
    authority: Callable[[], Authority],
    *,
    timeout_s: float,
    say: Callable[[str], None],
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
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
        waiting: Entered around the wait for the request, the one part that may be cut off by a signal.

    Raises:
        AdapterError: The guest made no request in time, or one for other names.
        UserError: The authority's key is needed and no operator's key is at hand.
    """
    names, addresses = (guest.fqdn, guest.name), (output.address,)
    current = hypervisor.file_read(output.vmid, guest.role.cert, missing_ok=True)
    if current:
        pem = current.decode()
        if covers(pem, names, addresses, authority_pem) and expires_in(pem) > RENEW_BEFORE:
            _serve(hypervisor, guest, output, pem)
            return False
    say(f"signing the certificate of guest {guest.name}")
    with waiting():
        request = _wait_for_request(hypervisor, guest, output, timeout_s)
    signed = sign(request, authority(), names=names, addresses=addresses)
    hypervisor.file_write(output.vmid, guest.role.cert, signed + authority_pem, mode=0o644)
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


def _wait_for_request(hypervisor: Proxmox, guest: GuestSpec, output: GuestOutput, timeout_s: float) -> str:
    limit = time.monotonic() + timeout_s
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
        time.sleep(POLL_S)
