"""Step: the object store gets its credentials and its buckets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.adapters.objectstore import Credentials, identities
from labctl.model.catalogue import STORE_ROOT, bucket_secrets
from labctl.model.projects import FOLDER
from labctl.model.secret import Secret
from labctl.model.state import STATE_BUCKET

if TYPE_CHECKING:
    from labctl.adapters.objectstore import ObjectStore
    from labctl.adapters.proxmox import Proxmox
    from labctl.adapters.vault import Vault
    from labctl.model.contracts import GuestOutput
    from labctl.model.lab import GuestSpec, Lab


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """Who may do what in the object store.

    Attributes:
        root: Its administrator.
        identities: The content of the guest's credentials file.
        provisioned: The buckets of projects.
    """

    root: Credentials
    identities: Secret
    provisioned: tuple[str, ...]


def store_access(vault: Vault, lab: Lab) -> StoreAccess:
    """Everybody who is to get in: the administrator, the lab's own buckets, and those of projects.

    Credentials of a project that were deleted in the Vault let nobody in any more; its bucket stays.
    """
    root = bucket_credentials(vault, STORE_ROOT)
    own = {bucket: bucket_credentials(vault, path) for bucket, path in bucket_secrets(lab).items()}
    folder = f"{FOLDER}/bucket/"
    paths = [entry.path for entry in vault.list_secrets(folder) if not entry.deleted]
    projects = {path.removeprefix(folder): bucket_credentials(vault, path) for path in paths}
    return StoreAccess(root, identities(root, own, projects), tuple(projects))


def bucket_credentials(vault: Vault, path: str) -> Credentials:
    """A key pair from the Vault."""
    _version, fields = vault.read(path)
    return Credentials(fields["access_key"], fields["secret_key"])


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
