"""The SSH host keys of a lab's guests, as OpenSSH reads them (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER = (
    "# The guests' SSH host keys, read through the hypervisor's guest agent by labctl. The last word is the guest's instance.\n"
)

_KEY = re.compile(r"(?P<kind>ssh-ed25519|ssh-rsa|ecdsa-sha2-[a-z0-9]+) (?P<key>[A-Za-z0-9+/=]+)")
_NAME = re.compile(r"[A-Za-z0-9.:-]+")


@dataclass(frozen=True, slots=True)
class HostKey:
    """A guest's host key.

    Attributes:
        names: What it is known by: name, full name, address.
        key: Kind and key.
        instance: Names the guest's installation, and how often it was set up.
    """

    names: tuple[str, ...]
    key: str
    instance: str = ""

    @property
    def line(self) -> str:
        """As it stands in the file."""
        return " ".join(filter(None, (",".join(self.names), self.key, self.instance)))


def parse_key(text: str) -> str | None:
    """Kind and key from a public key file, None where it holds none."""
    found = _KEY.match(text.strip())
    return found[0] if found else None


def known(text: str, name: str) -> HostKey | None:
    """The entry of a guest."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and not line.startswith("#") and name in words[0].split(","):
            return HostKey(tuple(words[0].split(",")), f"{words[1]} {words[2]}", " ".join(words[3:4]))
    return None


def with_key(text: str, entry: HostKey) -> str:
    """The file with this entry, in place of every other that shares a name with it."""
    names = set(entry.names)
    assert all(_NAME.fullmatch(name) for name in names), names
    kept = [
        line
        for line in text.splitlines()
        if line.strip() and not line.startswith("#") and not names & set(line.split()[0].split(","))
    ]
    return HEADER + "".join(f"{line}\n" for line in sorted([*kept, entry.line]))


def names_of(name: str, fqdn: str, address: str) -> tuple[str, ...]:
    """What a guest is known by."""
    return tuple(dict.fromkeys(filter(None, (name, fqdn, address))))


def changed_in_place(before: HostKey | None, now: HostKey) -> bool:
    """Whether a guest that was not set up anew shows another key."""
    return before is not None and before.key != now.key and bool(now.instance) and before.instance == now.instance
