"""The one command that looks into a guest, and what it answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from labctl.model.drift.guests import FoundFile, GuestFacts, Listener
from labctl.model.units import parse_units, units_command

_SECTION = "@@ "
# What a file holds stays in the guest, but for the two settings that are looked for: the others beside them are secret.
_SCRIPT = """\
echo '@@ clock'; date +%s
echo '@@ sums'; sha256sum -- "$@" 2>/dev/null
echo '@@ modes'; stat -L -c '%a %n' -- "$@" 2>/dev/null
echo '@@ ss'; ss -Hltnp 2>/dev/null || { echo '@@ proc'; cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; }
echo '@@ failed'; systemctl list-units --state=failed --plain --no-legend --no-pager 2>/dev/null
echo '@@ reboot'; if [ -e /run/reboot-required ] || [ -e /var/run/reboot-required ]; then echo required; fi
"""
_GITLAB = """\
echo '@@ registry'
grep -Eo '"?checksum_disabled"?[[:space:]]*:[[:space:]]*"?[a-z]+' /var/opt/gitlab/registry/config.yml 2>/dev/null
echo '@@ runner'
grep -E '^[[:space:]]*concurrent[[:space:]]*=' /etc/gitlab-runner/config.toml 2>/dev/null
echo '@@ told'
grep -E '^LAB_RUNNER_CONCURRENT=' /etc/lab/runner.env 2>/dev/null
"""
_LISTEN = "0A"
"""A listening socket in /proc/net/tcp (include/net/tcp_states.h: TCP_LISTEN is 10)."""


def look_command(paths: Sequence[str], units: Sequence[str], *, gitlab: bool) -> list[str]:
    """The command whose output `parse_answer` reads."""
    script = _SCRIPT + (_GITLAB if gitlab else "")
    if units:
        script += f"echo '@@ units'; {' '.join(units_command(units))} 2>/dev/null\n"
    return ["sh", "-c", f"{script}exit 0", "look", *paths]


def parse_answer(out: str, units: Sequence[str], now_s: float) -> GuestFacts:
    """What a guest is like inside.

    Args:
        out: What the command printed.
        units: As given to `look_command`.
        now_s: The time here, in seconds since 1970.
    """
    parts = _parts(out)
    modes = {path: mode for mode, path in (line.split(" ", 1) for line in parts.get("modes", ()) if " " in line)}
    sums = (line.split("  ", 1) for line in parts.get("sums", ()) if "  " in line)
    clock = _number(parts.get("clock", ()))
    gitlab = "registry" in parts
    return GuestFacts(
        files={path: FoundFile(sha, modes.get(path, "")) for sha, path in sums},
        listeners=tuple(_listeners(parts)),
        units={one.name: one.state for one in parse_units("\n".join(parts.get("units", ())), units)} if units else {},
        failed=tuple(line.split()[0] for line in parts.get("failed", ()) if line.strip()),
        checksum_disabled=next((line.split(":")[-1].strip(' "') for line in parts["registry"]), "") if gitlab else None,
        concurrent=_number(parts.get("runner", ())) if gitlab else None,
        concurrent_applied=_number(parts.get("told", ())) if gitlab else None,
        reboot=bool(parts.get("reboot")),
        clock_s=clock - now_s if clock else 0.0,
    )


def _parts(out: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in out.splitlines():
        if line.startswith(_SECTION):
            lines = found.setdefault(line.removeprefix(_SECTION), [])
        else:
            lines.append(line)
    # The units' answer has blank lines that count; elsewhere they do not.
    return {name: lines if name == "units" else [line for line in lines if line.strip()] for name, lines in found.items()}


def _number(lines: Sequence[str]) -> int:
    found = re.search(r"\d+", lines[0]) if lines else None
    return int(found[0]) if found else 0


def _listeners(parts: dict[str, list[str]]) -> Iterator[Listener]:
    for line in parts.get("ss", ()):
        words = line.split()
        if len(words) >= 4 and words[0] == "LISTEN":
            address, _, port = words[3].rpartition(":")
            process = re.search(r'\(\("([^"]+)"', line)
            yield Listener(_plain(address), int(port), process[1] if process else "")
    for line in parts.get("proc", ()):
        words = line.split()
        if len(words) >= 4 and words[3] == _LISTEN and ":" in words[1]:
            address, _, port = words[1].rpartition(":")
            yield Listener(_from_hex(address), int(port, 16))


def _plain(address: str) -> str:
    """`[::]`, `127.0.0.53%lo` and `*` as addresses."""
    text = address.strip("[]").partition("%")[0].strip("[]")
    return "::" if text == "*" else text


def _from_hex(text: str) -> str:
    """An address as the kernel writes it: words of four bytes, each turned round as on little-endian machines."""
    raw = bytes.fromhex(text)
    turned = b"".join(raw[place : place + 4][::-1] for place in range(0, len(raw), 4))
    found = ip_address(turned)
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
