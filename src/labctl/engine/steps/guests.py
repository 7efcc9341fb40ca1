"""What every guest goes through before its layer's own steps: its agent answers, it is set up, its host key is known."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

from labctl.engine.hostkeys import learn_host_key
from labctl.engine.labrun import LabRun
from labctl.engine.steps.cloudinit import FirstBoot
from labctl.model.contracts import GuestOutput
from labctl.model.lab import Lab


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a guest may take, in seconds.

    Attributes:
        agent_s: Until its agent answers.
        boot_s: Until cloud-init is done.
    """

    agent_s: float
    boot_s: float


def patience(lab: Lab) -> Patience:
    """How long the guests of a lab may take. GitLab's packages alone are 1.5 GB."""
    if lab.target.proxmox:
        return Patience(900.0, 3600.0)
    return Patience(180.0, 900.0) if lab.boots else Patience(60.0, 60.0)


_SLICE_S = 0.2
_LINE_EVERY_S = 30.0


class ComingUp:
    """A guest that comes up.

    Args:
        run: The run.
        layer: The stack that the guest belongs to.
        name: The guest.
        output: The guest as its layer published it.
    """

    def __init__(self, run: LabRun, layer: str, name: str, output: GuestOutput) -> None:
        self._run, self._layer, self._name, self._output = run, layer, name, output
        limits = patience(run.lab)
        self._told = time.monotonic()
        self._agent_s = limits.agent_s
        self._boot = FirstBoot(
            run.hypervisor,
            name,
            output.vmid,
            limits.boot_s,
            progress=self._progress,
            warn=lambda text: run.say(text, layer, kind="warning"),
            pause=self._pause,
        )

    def waiting(self) -> AbstractContextManager[None]:
        """A signal ends what is done in it at once."""
        return self._run.interrupts.raising()

    def require_no_failure(self) -> None:
        """Asks cloud-init whether it has failed.

        Raises:
            AdapterError: It has.
        """
        self._boot.require_no_failure()

    def wait_for_agent(self) -> None:
        """Waits until the agent answers.

        Raises:
            LabError: It does not in time.
        """
        run, layer = self._run, self._layer
        run.say(f"waiting for the agent of guest {self._name}", layer, kind="progress")
        with self.waiting():
            run.hypervisor.agent_wait(self._output.vmid, self._agent_s, lambda text: run.say(text, layer, kind="step"))

    def wait_for_boot(self) -> None:
        """Waits until cloud-init is done.

        Raises:
            AdapterError: It failed, or takes too long.
        """
        with self.waiting():
            took_s = self._boot.wait()
        if took_s:
            self._run.say(f"guest {self._name} is set up, after {took_s:.0f} s of waiting", self._layer, kind="step")

    def learn_host_key(self) -> None:
        """Takes down the guest's SSH host key, before anybody connects to it."""
        spec = self._run.lab.guest(self._name)
        learned = learn_host_key(self._run.hypervisor, self._run.paths, spec, self._output)
        if learned.changed_in_place:
            self._run.say(
                f"guest {self._name} has another SSH host key, though it was not set up anew: somebody made one in it",
                self._layer,
                kind="warning",
            )
        elif learned.changed:
            self._run.say(f"took down the SSH host key of guest {self._name}", self._layer, kind="step")

    def _progress(self, text: str) -> None:
        """For the live view each time; a line that stays, for logs, now and then."""
        stays = time.monotonic() - self._told >= _LINE_EVERY_S
        if stays:
            self._told = time.monotonic()
        self._run.say(text, self._layer, kind="step" if stays else "progress")

    def _pause(self, seconds: float) -> None:
        """In slices: on another thread than the main one, a signal cuts nothing off."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._run.interrupts.check()
            time.sleep(min(_SLICE_S, left))
