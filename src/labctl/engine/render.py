"""`labctl render`: a guest's cloud-init as the stacks write it."""

from __future__ import annotations

from labctl.cloudinit import UserDataRequest, user_data
from labctl.engine.identity import public_ssh_key
from labctl.engine.lab import OpenLab
from labctl.engine.session import local_state
from labctl.model.errors import UserError, nearest
from labctl.model.guestfiles import STORE, VAULT
from labctl.model.stackcontext import StackContext


def render_guest(found: OpenLab, name: str) -> str:
    """The guest's user-data. Addresses come from foundation's outputs where it is up, else from what is described.

    Raises:
        UserError: The lab has no such guest.
    """
    lab = found.lab
    names = [guest.name for guest in lab.guests()]
    if name not in names:
        raise UserError(f"the lab has no guest {name!r}", hint=nearest(name, names))
    outputs = local_state(found.paths, "foundation").outputs or {}
    vault, store = lab.guest("vault"), lab.guest("store")
    authority = found.paths.authority
    context = StackContext(lab, "", found.paths.state, found.paths.root, own_ssh_key=public_ssh_key(found.paths))
    return user_data(
        UserDataRequest(
            lab=lab,
            guest=lab.guest(name),
            authority_pem=authority.read_text() if authority.is_file() else "",
            ssh_keys=context.ssh_keys,
            vault_address=str(outputs.get("vault_address", f"https://{vault.ip or vault.fqdn}:{VAULT.port}")),
            s3_endpoint=str(outputs.get("s3_endpoint", f"https://{store.ip or store.fqdn}:{STORE.port}")),
            s3_region=lab.foundation.store.region,
            hosts={guest.fqdn: guest.ip for guest in lab.guests() if guest.ip},
        )
    )
