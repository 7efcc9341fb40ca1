"""What a document is made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.model.errors import LabError
from labctl.model.lab import GuestSpec, Lab

TOKEN = re.compile(r"\$\{TfToken\[[^\]\s]*\]\}")
"""A value that Terraform fills in later, as CDKTF writes it. Passed through whole: never parsed, split or escaped."""

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class UserDataRequest:
    """Input of `user_data`. Nothing in it is secret.

    Attributes:
        lab: The lab.
        guest: The guest that the document is for.
        authority_pem: Certificate of the lab's authority, which the guest trusts; "" before there is one.
        ssh_keys: Public keys that may log in as user `ops`.
        vault_address: URL of the Vault, or a Terraform token; "" for the guests that come before it.
        s3_endpoint: URL of the object store with its scheme, or a Terraform token.
        s3_region: Region of the object store, or a Terraform token.
        hosts: Full name to address of the lab's guests whose addresses are known, for /etc/hosts.
    """

    lab: Lab
    guest: GuestSpec
    authority_pem: str = ""
    ssh_keys: tuple[str, ...] = ()
    vault_address: str = ""
    s3_endpoint: str = ""
    s3_region: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what must not be in a document.

        Raises:
            LabError: `authority_pem` is not a certificate, or holds a private key; a name or address in `hosts` is none.
        """
        if self.authority_pem and ("BEGIN CERTIFICATE" not in self.authority_pem or "PRIVATE KEY" in self.authority_pem):
            raise LabError(
                "the authority given to guests must be certificates and nothing else",
                where=self.guest.name,
                hint="Everybody who may read the hypervisor's snippets can read a guest's cloud-init.",
            )
        for name, address in self.hosts.items():
            if not _HOST_NAME.fullmatch(name) or not address or re.search(r"\s", address):
                raise LabError(f"{name!r} → {address!r} cannot stand in /etc/hosts", where=self.guest.name)

    @property
    def other_hosts(self) -> dict[str, str]:
        """The lab's names without this guest's own, sorted by name."""
        return {name: self.hosts[name] for name in sorted(self.hosts) if name != self.guest.fqdn}
