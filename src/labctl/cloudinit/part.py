"""Parts of a document, and how they merge."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from labctl.model.errors import LabError

Setting = str | bool | tuple[str, ...]
Command = str | tuple[str, ...]
"""A string goes to `sh`; a tuple is a program with its arguments."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class GuestFile:
    """A file that the guest is born with.

    Attributes:
        path: Where it lies, absolute.
        content: Its text.
        mode: Its permissions in octal, as `0644`.
    """

    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the guest's system. No account has a password.

    Attributes:
        name: Its name.
        system: A service's own user: no login shell, no home in /home.
        home: Its home directory; "" for the usual one.
        ssh_keys: Public keys that may log in.
        sudo: Its line in sudoers after the name; "" for none.
    """

    name: str
    system: bool = False
    home: str = ""
    ssh_keys: tuple[str, ...] = ()
    sudo: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a user-data document.

    Attributes:
        settings: Top-level keys with plain values.
        accounts: Users.
        packages: Packages of the distribution itself; those of other repositories are installed by `commands`.
        files: Files.
        commands: What runs once, in this order, on the first boot. The whole list is one `sh` script.
    """

    settings: Mapping[str, Setting] = field(default_factory=dict)
    accounts: tuple[Account, ...] = ()
    packages: tuple[str, ...] = ()
    files: tuple[GuestFile, ...] = ()
    commands: tuple[Command, ...] = ()


def merge(parts: Iterable[Part]) -> Part:
    """One part that holds all of `parts`.

    Settings are united; lists are appended in the order of the parts. A package named twice is installed once, where it first
    stood. A file or an account that two parts describe alike is there once. Commands are never dropped.

    Raises:
        LabError: Two parts give one setting, file path or account name different values.
    """
    parts = tuple(parts)
    settings: dict[str, Setting] = {}
    for part in parts:
        for key, value in part.settings.items():
            if settings.setdefault(key, value) != value:
                raise LabError(f"two parts of a document set {key!r}: to {settings[key]!r} and to {value!r}")
    return Part(
        settings=settings,
        accounts=_unique("account", [(a.name, a) for part in parts for a in part.accounts]),
        packages=tuple(dict.fromkeys(name for part in parts for name in part.packages)),
        files=_unique("file", [(f.path, f) for part in parts for f in part.files]),
        commands=tuple(command for part in parts for command in part.commands),
    )


def _unique(kind: str, items: Sequence[tuple[Hashable, Item]]) -> tuple[Item, ...]:
    found: dict[Hashable, Item] = {}
    for key, item in items:
        if found.setdefault(key, item) != item:
            raise LabError(f"two parts of a document describe the {kind} {key!r} differently")
    return tuple(found.values())
