"""Step: the object store gets its credentials and its buckets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.adapters.objectstore import ObjectStore
    from labctl.adapters.proxmox import Proxmox
    from labctl.model.contracts import GuestOutput
    from labctl.model.lab import GuestSpec
    from labctl.model.secret import Secret
from labctl.model.state import STATE_BUCKET


def deliver_credentials(
    hypervisor: Proxmox, guest: GuestSpec, output: GuestOutput, identities: Secret, say: Callable[[str], None]
) -> bool:
    """Delivers the store's credentials where they differ; says whether it did.

    Args:
        hypervisor: Whose agent calls reach the guest.
        guest: Guest `store`.
        output: The guest as foundation published it.
        identities: The content of the guest's credentials file.
        say: Where progress goes.
    """
    current = hypervisor.file_read(output.vmid, guest.role.credentials, missing_ok=True)
    differs = current is None or current.decode() != identities.reveal()
    if differs:
        say("delivering the object store's credentials")
        # Stopped first: cut off anywhere, the next run finds the unit off, and starts it with what lies there by then.
        hypervisor.exec(output.vmid, ["systemctl", "stop", guest.role.unit]).check(f"systemctl stop {guest.role.unit}")
        hypervisor.file_write(output.vmid, guest.role.credentials, identities, mode=0o600)
    active = hypervisor.exec(output.vmid, ["systemctl", "is-active", guest.role.unit]).exit_code == 0
    if not active:
        hypervisor.exec(output.vmid, ["systemctl", "start", guest.role.unit]).check(f"systemctl start {guest.role.unit}")
    return differs


def ensure_buckets(store: ObjectStore, buckets: Sequence[str], say: Callable[[str], None]) -> tuple[str, ...]:
    """Makes the buckets that are missing and returns their names; the state's is versioned."""
    made = []
    for bucket in buckets:
        if store.ensure_bucket(bucket, versioned=bucket == STATE_BUCKET):
            say(f"bucket {bucket} is ready")
            made.append(bucket)
    return tuple(made)
