"""The nightly check as units of systemd, or as a line of cron. Pure text.

Sources: systemd.service(5), systemd.timer(5), systemd.exec(5), systemd.syntax(7).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from labctl.model.errors import UserError

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_CREDENTIAL = re.compile(r"(?m)^(\w+)='([^'\n]*)'$")
DELAY_S = 900
LONGEST_S = 7200


@dataclass(frozen=True, slots=True)
class Nightly:
    """A check that runs every night.

    Attributes:
        lab: The lab's name.
        lab_file: Its description, absolute.
        labctl: The command, absolute.
        hour: When, with `minute`, in the machine's time zone.
        minute: See `hour`.
        credentials: The file with what it logs in with, absolute; "" where it uses what is at hand.
        writes: The folders that it writes to, absolute.
        user: Who it runs as; "" in a user's own systemd.
        path: PATH of the service.
        mirror: The provider's mirror where LABCTL_MIRROR names one.
    """

    lab: str
    lab_file: str
    labctl: str
    hour: int = 3
    minute: int = 30
    credentials: str = ""
    writes: tuple[str, ...] = ()
    user: str = ""
    path: str = "/usr/local/bin:/usr/bin:/bin"
    mirror: str = ""

    @property
    def name(self) -> str:
        """Of both units, without their endings; labs of one name in two folders have two."""
        return f"labctl-drift-{self.lab}-{hashlib.sha256(self.lab_file.encode()).hexdigest()[:8]}"

    @property
    def units(self) -> dict[str, str]:
        """The files by name."""
        return {f"{self.name}.service": _service(self), f"{self.name}.timer": _timer(self)}

    @property
    def cron(self) -> str:
        """The same for a machine without systemd."""
        words = f"{_shell(self.labctl)} drift --quiet --notify --lab {_shell(self.lab_file)}".replace("%", "\\%")
        source = f"set -a; . {_shell(self.credentials)}; ".replace("%", "\\%") if self.credentials else ""
        return f"{self.minute} {self.hour} * * * {source}{words}"


def time_of_day(text: str) -> tuple[int, int]:
    """Hour and minute of `03:30`.

    Raises:
        UserError: It is no time of day.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{text!r} is no time of day", where="--at", hint="Write it as 03:30.")
    return int(found[1]), int(found[2])


def credentials_text(values: dict[str, str]) -> str:
    """The content of a credentials file, for systemd and for a shell.

    Raises:
        UserError: A value cannot be written so.
    """
    for name, value in values.items():
        if not value.isprintable() or set(value) & set("'\"\\$`"):
            raise UserError(f"the value of {name} has letters that no token has", where=name)
    return "".join(f"{name}='{value}'\n" for name, value in sorted(values.items()))


def credentials_in(text: str) -> dict[str, str]:
    """What `credentials_text` made the text from; lines of another form are let be."""
    return dict(_CREDENTIAL.findall(text))


def _timer(nightly: Nightly) -> str:
    return _sections(
        Unit={"Description": f"Nightly drift check of lab {nightly.lab}"},
        Timer={
            "OnCalendar": f"*-*-* {nightly.hour:02}:{nightly.minute:02}:00",
            # Labs on one hypervisor do not all begin in the same second; a machine that was off makes up for it.
            "RandomizedDelaySec": f"{DELAY_S}",
            "Persistent": "true",
        },
        Install={"WantedBy": "timers.target"},
    )


def _service(nightly: Nightly) -> str:
    environment = [f"PATH={nightly.path}", *([f"LABCTL_MIRROR={nightly.mirror}"] if nightly.mirror else [])]
    return _sections(
        Unit={
            "Description": f"Drift check of lab {nightly.lab}",
            **({"Wants": "network-online.target", "After": "network-online.target"} if nightly.user else {}),
        },
        Service={
            "Type": "oneshot",
            **({"User": nightly.user} if nightly.user else {}),
            "WorkingDirectory": _raw(nightly.lab_file.rpartition("/")[0] or "/"),
            "Environment": " ".join(_quoted(one) for one in environment),
            **({"EnvironmentFile": _raw(nightly.credentials)} if nightly.credentials else {}),
            "ExecStart": " ".join(
                _argument(word) for word in (nightly.labctl, "drift", "--quiet", "--notify", "--lab", nightly.lab_file)
            ),
            # 2 is drift: the check has done its work. 1 is what is not known.
            "SuccessExitStatus": "2",
            "TimeoutStartSec": str(LONGEST_S),
            "Nice": "10",
            **dict(_hardening(nightly)),
        },
    )


def _hardening(nightly: Nightly) -> Iterator[tuple[str, str]]:
    yield "UMask", "0077"
    yield "NoNewPrivileges", "true"
    yield "LockPersonality", "true"
    yield "RestrictRealtime", "true"
    yield "RestrictSUIDSGID", "true"
    yield "SystemCallArchitectures", "native"
    if not nightly.user:
        # The rest needs namespaces, which a user's systemd has not everywhere.
        return
    yield "ProtectSystem", "strict"
    yield "ProtectHome", "read-only"
    yield "ReadWritePaths", " ".join(_quoted(folder) for folder in nightly.writes)
    if not any(folder.startswith(("/tmp/", "/var/tmp/")) for folder in nightly.writes):  # noqa: S108 - a lab may lie there
        yield "PrivateTmp", "true"
    for name in ("PrivateDevices", "ProtectClock", "ProtectControlGroups", "ProtectHostname"):
        yield name, "true"
    for name in ("ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"):
        yield name, "true"
    yield "CapabilityBoundingSet", ""
    yield "RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"
    yield "RestrictNamespaces", "true"
    # MemoryDenyWriteExecute is not set: Node compiles as it runs.
    yield "SystemCallFilter", "@system-service"


def _sections(**sections: dict[str, str]) -> str:
    blocks = ["\n".join((f"[{name}]", *(f"{key}={value}" for key, value in lines.items()))) for name, lines in sections.items()]
    return "# Written by `labctl schedule install`, which writes it anew.\n" + "\n\n".join(blocks) + "\n"


def _raw(text: str) -> str:
    return _checked(text).replace("%", "%%")


def _quoted(text: str) -> str:
    escaped = _checked(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;#]", text) else escaped


def _argument(text: str) -> str:
    return _quoted(text).replace("$", "$$")


def _checked(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise UserError(f"a path has a line break: {text!r}", hint="Move the lab to another folder.")
    return text


def _shell(text: str) -> str:
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text) else "'" + text.replace("'", "'\\''") + "'"
