"""Units of systemd: the system's own, or a user's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.model.errors import AdapterError, UserError

TIMEOUT_S = 60
_MODE = 0o644


@dataclass(frozen=True, slots=True)
class TimerState:
    """Where a timer stands; times are as systemd writes them, "" for none.

    Attributes:
        active: It is waiting for its time.
        next: When it elapses next.
        last: When it elapsed last.
        result: How the service ended last, in systemd's word; "" where it never ran.
        code: The exit code that it ended with.
    """

    active: bool
    next: str
    last: str
    result: str
    code: int


@dataclass(frozen=True, slots=True)
class Systemd:
    """A systemd.

    Attributes:
        user: It is the user's own.
        folder: Where its units are written to.
        program: `systemctl`.
    """

    user: bool
    folder: Path
    program: str = "systemctl"

    def installed(self, units: Mapping[str, str]) -> bool:
        """Whether these files are there, with this content."""
        return all((self.folder / name).is_file() and (self.folder / name).read_text() == text for name, text in units.items())

    def install(self, units: Mapping[str, str], timer: str) -> bool:
        """Writes units, and starts the timer; says whether a file changed.

        Raises:
            UserError: The folder cannot be written.
            AdapterError: systemd refuses.
        """
        changed = not self.installed(units)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, text in units.items():
                draft = self.folder / f".{name}.new"
                draft.write_text(text)
                draft.chmod(_MODE)
                draft.replace(self.folder / name)
        except OSError as error:
            raise self._cannot(error) from error
        self._call("daemon-reload")
        self._call("enable", "--now", timer)
        if changed:
            # One that waits already goes on waiting for its old time.
            self._call("restart", timer)
        return changed

    def remove(self, names: tuple[str, ...], timer: str) -> bool:
        """Stops the timer and removes units; says whether there were any.

        Raises:
            UserError: The folder cannot be written.
            AdapterError: systemd refuses.
        """
        there = [self.folder / name for name in names if (self.folder / name).exists()]
        if not there:
            return False
        if (self.folder / timer).exists():
            self._call("disable", "--now", timer)
            # Where the catch-up is remembered.
            self._call("clean", "--what=state", timer, fine=(0, 1))
        try:
            for path in there:
                path.unlink()
        except OSError as error:
            raise self._cannot(error) from error
        self._call("daemon-reload")
        for path in there:
            self._call("reset-failed", path.name, fine=(0, 1))
        return True

    def state(self, name: str) -> TimerState:
        """Where the timer and the service of this name stand."""
        timer = self._show(f"{name}.timer", "ActiveState", "NextElapseUSecRealtime", "LastTriggerUSec")
        service = self._show(f"{name}.service", "Result", "ExecMainStatus", "ExecMainExitTimestamp")
        ran = service.get("ExecMainExitTimestamp", "") not in ("", "n/a", "0")
        return TimerState(
            active=timer.get("ActiveState") == "active",
            next=_time(timer.get("NextElapseUSecRealtime", "")),
            last=_time(timer.get("LastTriggerUSec", "")),
            result=service.get("Result", "") if ran else "",
            code=int(service.get("ExecMainStatus") or 0),
        )

    def _show(self, unit: str, *properties: str) -> dict[str, str]:
        text = self._call("show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def _call(self, *arguments: str, fine: tuple[int, ...] = (0,)) -> str:
        argv = [self.program, *(("--user",) if self.user else ()), "--no-pager", *arguments]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AdapterError(f"systemctl {arguments[0]} did not run: {error}") from error
        if done.returncode not in fine:
            said = " ".join(done.stderr.split())[:300]
            raise AdapterError(
                f"systemctl {' '.join(arguments[:2])}: {said or done.returncode}", hint="`systemctl status` says more."
            )
        return done.stdout

    def _cannot(self, error: OSError) -> UserError:
        hint = "Run it as root, or for your own user: --user." if not self.user else "Check its owner and mode."
        return UserError(f"cannot be written: {error.strerror or error}", where=str(self.folder), hint=hint)


def find_systemd(*, user: bool, environment: Mapping[str, str] = os.environ) -> Systemd | None:
    """This machine's systemd; None where another program is the first one. As `sd_booted(3)` decides."""
    program = shutil.which("systemctl")
    if program is None or not Path("/run/systemd/system").is_dir():
        return None
    if not user:
        return Systemd(user=False, folder=Path("/etc/systemd/system"), program=program)
    config = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Systemd(user=True, folder=Path(config) / "systemd" / "user", program=program)


def _time(text: str) -> str:
    return "" if text in ("n/a", "0") else text
