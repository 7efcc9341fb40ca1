"""Step: waits until a guest's cloud-init has done its work, and says what it is at. The same for a VM and for a container."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from labctl.adapters.proxmox import AgentUnavailable, FileMissing, GuestMissing, Proxmox, ProxmoxFailed, StillRunning, Unreachable
from labctl.model.cloudinit import STATUS_COMMAND, Boot, BootStatus, ended_well, judge, telling_lines
from labctl.model.errors import AdapterError, LabError
from labctl.model.guestfiles import CLOUD_INIT_LOG, CLOUD_INIT_STATUS, SET_UP, USER_DATA

POLL_S = 2.0
SWITCH_OFF_S = 60.0
"""How long a guest that was told to reboot may still answer as before."""
CALL_TIMEOUT_S = 20.0
BEGIN_AGAIN = "cloud-init clean --logs && systemctl --no-block reboot"
_READ_LINES, _SHOWN_LINES = 80, 15

Tell = Callable[[str], None]


@dataclass(slots=True)
class FirstBoot:
    """cloud-init in one guest, asked through the guest agent.

    A guest that reboots, an agent that goes away and one that hangs are waited for; only time ends that.

    Args:
        hypervisor: Whose agent calls reach the guest.
        name: The guest.
        vmid: Its id.
        limit_s: How long it may take.
        progress: Gets a line each time that it was asked.
        warn: Gets a line where cloud-init has complaints.
        clock: Seconds.
        pause: Waits for some seconds; may raise, which ends the wait.
    """

    hypervisor: Proxmox
    name: str
    vmid: int
    limit_s: float
    progress: Tell
    warn: Tell
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    _problem: str = field(default="", init=False)
    _again_at: float | None = field(default=None, init=False)

    def wait(self) -> float:
        """Waits for its end; returns how long that took, 0 where there was nothing to wait for.

        Raises:
            AdapterError: cloud-init failed, with the module and the last lines of its log; it takes too long; or it never runs
                there. The guest is left as it is.
        """
        if self.has_ended_well():
            return 0.0
        began = self.clock()
        while not (status := self.ask()).boot.ended or not self._is_whole(status):
            waited = self.clock() - began
            if waited >= self.limit_s:
                raise self._too_long(status)
            self.progress(f"guest {self.name}: {self._doing(status)}, {waited:.0f} s")
            self.pause(POLL_S)
        self._require_success(status)
        return self.clock() - began

    def has_ended_well(self) -> bool:
        """The quick look: two files, no process in the guest."""
        try:
            ended = ended_well(self.hypervisor.file_read(self.vmid, CLOUD_INIT_STATUS, missing_ok=True))
            return ended and self._has_mark()
        except (ProxmoxFailed, Unreachable) as error:
            self._passing(error)
            return False

    def _is_whole(self, status: BootStatus) -> bool:
        """Whether its commands came to their end. A guest that rebooted in the middle is told to begin again, once.

        What they do can be done again: keys and data that are there are kept.

        Raises:
            AdapterError: It was cut off again.
        """
        if status.boot not in (Boot.DONE, Boot.DEGRADED):
            return True
        try:
            if self._has_mark() or not self._leaves_mark():
                return True
            if self._again_at is not None:
                if self.clock() - self._again_at < SWITCH_OFF_S:
                    return False  # on its way down
                raise AdapterError(
                    "rebooted again in the middle of its first boot",
                    where=f"guest {self.name}",
                    hint="\n".join(self._remedy()),
                )
            self.warn(f"guest {self.name} rebooted in the middle of its first boot, which begins again")
            self._again_at = self.clock()
            self.hypervisor.exec(self.vmid, ["sh", "-c", BEGIN_AGAIN], timeout_s=CALL_TIMEOUT_S)
        except (ProxmoxFailed, StillRunning, Unreachable) as error:
            self._passing(error)
        return False

    def _has_mark(self) -> bool:
        return self.hypervisor.file_read(self.vmid, SET_UP, missing_ok=True) is not None

    def _leaves_mark(self) -> bool:
        """Whether its document is one with that command: those of guests made by an older labctl are not."""
        return SET_UP.encode() in (self.hypervisor.file_read(self.vmid, USER_DATA, missing_ok=True) or b"")

    def require_no_failure(self) -> None:
        """For waits for something that cloud-init is to bring about.

        Raises:
            AdapterError: It has failed, so that what is waited for will never come.
        """
        status = self.ask()
        if status.boot in (Boot.ERROR, Boot.DISABLED):
            self._require_success(status)

    def ask(self) -> BootStatus:
        """How far it is; unknown where the agent does not answer now.

        Raises:
            AdapterError: There is no cloud-init in the guest, or the agent is not configured.
        """
        try:
            result = self.hypervisor.exec(self.vmid, STATUS_COMMAND, timeout_s=CALL_TIMEOUT_S)
        except FileMissing as error:
            raise AdapterError(
                "has no cloud-init",
                where=f"guest {self.name}",
                hint="Its image is not a cloud image: foundation.image in lab.yaml names another.",
            ) from error
        except (ProxmoxFailed, StillRunning, Unreachable) as error:
            self._passing(error)
            return BootStatus(Boot.UNKNOWN)
        self._problem = ""
        return judge(result.exit_code, result.out)

    def log_lines(self) -> list[str]:
        """The last lines of what cloud-init's commands said; none where it cannot be read now."""
        command = ["tail", f"--lines={_READ_LINES}", CLOUD_INIT_LOG]
        try:
            return telling_lines(self.hypervisor.exec(self.vmid, command, timeout_s=CALL_TIMEOUT_S).out)
        except (ProxmoxFailed, StillRunning, Unreachable):
            return []

    def _passing(self, error: LabError) -> None:
        """Remembers what stands in the way; raises where waiting does not help."""
        if isinstance(error, GuestMissing) or (isinstance(error, AgentUnavailable) and "configured" in error.message):
            raise error
        self._problem = error.message

    def _doing(self, status: BootStatus) -> str:
        if status.boot is Boot.UNKNOWN:
            return f"its agent does not answer ({self._problem})" if self._problem else "cloud-init does not say how far it is"
        lines = self.log_lines()
        stage = f"cloud-init {status.boot}" + (f" ({status.stage})" if status.stage else "")
        return f"{stage}: {lines[-1][:100]}" if lines else stage

    def _require_success(self, status: BootStatus) -> None:
        if status.boot is Boot.DEGRADED:
            self.warn(
                f"guest {self.name}: cloud-init is done, with complaints: {'; '.join(status.complaints[:3]) or 'see its log'}"
            )
        elif status.boot is Boot.DISABLED:
            raise AdapterError(
                "cloud-init is disabled: the guest was never set up",
                where=f"guest {self.name}",
                hint="Its image switches it off (/etc/cloud/cloud-init.disabled); foundation.image in lab.yaml names another.",
            )
        elif status.boot is Boot.ERROR:
            shown = [f"  {line[:160]}" for line in self.log_lines()[-_SHOWN_LINES:]]
            raise AdapterError(
                f"cloud-init failed in {status.failed_part}" + (f": {status.reason[:300]}" if status.reason else ""),
                where=f"guest {self.name}",
                hint="\n".join([*([f"The end of {CLOUD_INIT_LOG}:", *shown] if shown else []), *self._remedy()]),
            )

    def _too_long(self, status: BootStatus) -> AdapterError:
        return AdapterError(
            f"cloud-init has not ended after {self.limit_s:.0f} s: {self._doing(status)}",
            where=f"guest {self.name}",
            hint="\n".join(["It may still end: `labctl up` goes on waiting.", *self._remedy()]),
        )

    def _remedy(self) -> list[str]:
        name = self.name
        return [
            f"The guest is left as it is: `labctl console {name}` shows its boot, `labctl ssh {name}` gets into it.",
            f"With the cause mended, `labctl ssh {name} -- sudo cloud-init clean --logs --reboot` does its first boot again,",
            "and `labctl up` goes on.",
        ]
