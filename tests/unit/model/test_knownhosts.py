"""The file of host keys, and units as systemctl tells them."""

from __future__ import annotations

from labctl.model.knownhosts import HostKey, changed_in_place, known, names_of, parse_key, with_key
from labctl.model.units import UnitState, parse_units

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOteFg+KPvuEFS6MkNcxL15hPa9U0sMz1SRyQt2x+wWR"
OTHER = KEY.replace("wWR", "wWS")


def entry(name: str, key: str = KEY, address: str = "198.18.86.3", instance: str = "i1") -> HostKey:
    return HostKey(names_of(name, f"{name}.lab.internal", address), key, instance)


def test_an_entry_replaces_every_other_that_shares_a_name() -> None:
    text = with_key(with_key("", entry("gitlab")), entry("docker", address="198.18.86.4"))
    assert known(text, "gitlab") == entry("gitlab")
    assert known(text, "198.18.86.4") == entry("docker", address="198.18.86.4")
    assert known(text, "vault") is None
    # Another guest has taken the address, as with DHCP: the old line would refuse it.
    moved = with_key(text, entry("docker", OTHER, "198.18.86.3", "i2"))
    assert [line.split()[0] for line in moved.splitlines()[1:]] == ["docker,docker.lab.internal,198.18.86.3"]
    assert with_key(moved, entry("docker", OTHER, "198.18.86.3", "i2")) == moved


def test_a_key_is_read_from_a_public_key_file_and_nothing_else() -> None:
    assert parse_key(f"{KEY} root@gitlab\n") == KEY
    for nothing in ("", "-----BEGIN OPENSSH PRIVATE KEY-----", "ssh-ed25519", "* ssh-ed25519 AAAA"):
        assert parse_key(nothing) is None


def test_only_a_guest_that_was_not_set_up_anew_is_suspicious() -> None:
    assert changed_in_place(entry("gitlab"), entry("gitlab", OTHER))
    assert not changed_in_place(entry("gitlab"), entry("gitlab", OTHER, instance="i2"))
    assert not changed_in_place(entry("gitlab"), entry("gitlab", address="198.18.86.9"))
    assert not changed_in_place(None, entry("gitlab"))
    assert not changed_in_place(entry("gitlab", instance=""), entry("gitlab", OTHER, instance=""))


def test_units_come_in_the_order_asked() -> None:
    out = "Id=a.service\nLoadState=loaded\nActiveState=active\n\nActiveState=inactive\nLoadState=not-found\nId=b.service\n"
    names = ["alias-of-a.service", "b.service", "c.service"]
    assert parse_units(out, names) == (
        UnitState("alias-of-a.service", "active"),
        UnitState("b.service", "missing"),
        UnitState("c.service", "missing"),
    )
    assert parse_units("", ["a.service"]) == (UnitState("a.service", "missing"),)
