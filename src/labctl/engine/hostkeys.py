"""The guests' SSH host keys, read through the hypervisor's guest agent: no first connection is trusted blindly."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.engine.paths import LabPaths, replace_file
from labctl.model.contracts import GuestOutput
from labctl.model.guestfiles import INSTANCE_ID, MACHINE_ID, SSH_HOST_KEY
from labctl.model.knownhosts import HostKey, changed_in_place, known, names_of, parse_key, with_key
from labctl.model.lab import GuestSpec

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox

_WRITING = threading.Lock()
_INSTANCE = (INSTANCE_ID, MACHINE_ID)


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of it.

    Attributes:
        key: The key, None where the guest has none yet.
        changed: The file was written.
        changed_in_place: The guest was not set up anew, and has another key than before.
    """

    key: HostKey | None
    changed: bool = False
    changed_in_place: bool = False


def learn_host_key(hypervisor: Proxmox, paths: LabPaths, guest: GuestSpec, output: GuestOutput) -> Learned:
    """Brings the guest's line in `known_hosts` to the key that the guest has now.

    The key itself is read each time: that costs one call, as asking for the instance would, and is never out of date.

    Raises:
        LabError: The agent does not answer.
    """
    key = parse_key((hypervisor.file_read(output.vmid, SSH_HOST_KEY, missing_ok=True) or b"").decode(errors="replace"))
    if key is None:
        return Learned(None)
    names = names_of(guest.name, guest.fqdn, output.address)
    before = known(read_known_hosts(paths), guest.name)
    if before is not None and (before.key, before.names) == (key, names):
        return Learned(before)
    now = HostKey(names, key, _instance(hypervisor, output.vmid))
    with _WRITING:
        replace_file(paths.known_hosts, with_key(read_known_hosts(paths), now))
    return Learned(now, changed=True, changed_in_place=changed_in_place(before, now))


def _instance(hypervisor: Proxmox, vmid: int) -> str:
    """What tells this installation of the guest from every other, "" where it does not say.

    cloud-init's instance follows from the user-data, so that a guest that was made anew has the one of its predecessor: hence the
    machine's own id as well (machine-id(5)).
    """
    found = [(hypervisor.file_read(vmid, path, missing_ok=True) or b"").decode(errors="replace").strip() for path in _INSTANCE]
    return "/".join(found) if all(word.isprintable() and word and " " not in word for word in found) else ""


def read_known_hosts(paths: LabPaths) -> str:
    """The file's text; "" before there is one."""
    return paths.known_hosts.read_text() if paths.known_hosts.is_file() else ""
