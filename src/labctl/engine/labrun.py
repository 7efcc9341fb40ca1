"""A run over a lab: its hypervisor, its Vault, its contracts, its steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.adapters.keys import Keyring
from labctl.engine.identity import identities
from labctl.engine.ownprovider import OwnProvider
from labctl.engine.paths import LabPaths
from labctl.engine.run import Run, StackRun, Stage
from labctl.model.errors import LabError
from labctl.model.lab import Lab
from labctl.model.ownprovider import OWN_LAYERS
from labctl.model.preflight import Facts
from labctl.model.state import StackState, without

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox
    from labctl.adapters.terraform import Terraform
    from labctl.engine.session import LabSession
    from labctl.engine.target import TargetSession
    from labctl.sandbox.choice import Choice


@dataclass(slots=True, kw_only=True)
class LabRun(Run):
    """A run over one lab."""

    lab: Lab
    paths: LabPaths
    guests: Choice | None = None
    _target: TargetSession | None = None
    _hypervisor: Proxmox | None = None
    facts: Facts | None = None
    session: LabSession | None = None
    session_problem: LabError | None = None
    target_problem: LabError | None = None
    own_provider: OwnProvider = field(default_factory=OwnProvider)

    @property
    def keyring(self) -> Keyring:
        """The lab's encrypted key files."""
        return Keyring(self.paths.keys)

    @property
    def identities(self) -> tuple[Path, ...]:
        """The operator's private key files at hand."""
        return identities(self.paths, self.options.identities)

    def connect(self, target: TargetSession, connect: Callable[..., Proxmox]) -> None:
        """Takes the target and connects to its API."""
        self._target = target
        self._hypervisor = connect(target.endpoint, target.token_id, target.token, target.ca_file)

    def close(self) -> None:
        """As `Run.close`: ends labctl's own provider and the Vault login, and closes the connections to the hypervisor."""
        self.own_provider.close()
        if self.session is not None:
            self.session.close()
        if self._hypervisor is not None:
            self._hypervisor.close()

    @property
    def target(self) -> TargetSession:
        """The hypervisor's address and credentials, after stage `target`.

        Raises:
            LabError: A run that goes on without it asks for it.
        """
        if self.target_problem is not None:
            raise self.target_problem
        assert self._target is not None
        return self._target

    @property
    def hypervisor(self) -> Proxmox:
        """The hypervisor's API, after stage `target`.

        Raises:
            LabError: A run that goes on without it asks for it.
        """
        if self.target_problem is not None:
            raise self.target_problem
        assert self._hypervisor is not None
        return self._hypervisor

    # -- Run -----------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.lab.name

    @property
    def owns_backends(self) -> bool:
        """As `Run.owns_backends`."""
        return True

    @property
    def work_folders(self) -> Path:
        """As `Run.work_folders`."""
        return self.paths.stacks

    def stages(self, command: str) -> tuple[Stage, ...]:
        """As `Run.stages`."""
        from labctl.engine.stages import PREPARE, PREPARE_DOWN, PREPARE_PLAN, RECOVER

        return {"up": (*PREPARE, RECOVER), "plan": PREPARE_PLAN, "down": PREPARE_DOWN}.get(command, PREPARE)

    def terraform(self, stack: StackRun, folder: Path | None = None) -> Terraform:
        """As `Run.terraform`."""
        from labctl.engine.workspace import lab_terraform

        return lab_terraform(self, stack, folder or stack.stack.folder)

    def readable(self, stack: StackRun) -> bool:
        """As `Run.readable`: all but foundation lie in the object store, which the Vault opens."""
        return self.session is not None or stack.layer == "foundation"

    def unreadable_reason(self) -> str:
        """As `Run.unreadable_reason`."""
        return str(self.session_problem or "its state is unreadable")

    def read_state(self, stack: StackRun) -> StackState:
        """As `Run.read_state`; what cannot be read now is as it was."""
        from labctl.engine.session import local_state, remote_state

        if stack.layer == "foundation":
            return local_state(self.paths, stack.name)
        return remote_state(self.session, self.paths, stack.name) if self.session is not None else stack.state

    def state_content(self, stack: StackRun) -> bytes | None:
        """As `Run.state_content`, without what is `gone`."""
        from labctl.engine.session import state_content

        content = state_content(self.session, self.paths, stack.name, stack.layer)
        gone = self.gone(stack) if content else frozenset()
        return json.dumps(without(json.loads(content), gone)).encode() if content and gone else content

    def gone(self, stack: StackRun) -> frozenset[str]:
        """As `Run.gone`: what was on guests that were deleted outside, or by a run that was cut off."""
        from labctl.engine.recovery import gone_with_guests

        return gone_with_guests(self, stack)

    def refreshes(self, stack: StackRun) -> bool:
        """As `Run.refreshes`: what is on guest `docker` cannot be seen while that is off."""
        return stack.layer not in OWN_LAYERS or self._docker_runs()

    def _docker_runs(self) -> bool:
        """Whether guest `docker` is on. Where that cannot be seen, whoever asks it will say why."""
        vmid = self.lab.guest("docker").settings.vmid
        guests = self.facts.guests if self.facts else self.hypervisor.resources()
        return any(guest.vmid == vmid and guest.status == "running" for guest in guests)

    def mend(self, stack: StackRun) -> None:
        """As `Run.mend`."""
        from labctl.engine.locks import free_dead_lock

        free_dead_lock(self, stack)

    def take_over(self, stack: StackRun) -> None:
        """As `Run.take_over`."""
        from labctl.engine.recovery import take_over

        take_over(self, stack)

    def judge(self, stack: StackRun) -> None:
        """As `Run.judge`: the rules of `labctl.model.policy`."""
        from labctl.engine.judging import judge

        judge(self, stack)

    def finish(self, stack: StackRun) -> list[str]:
        """As `Run.finish`: the contract, and the layer's steps."""
        from labctl.engine.finishing import finish

        return finish(self, stack)

    def before_down(self, stacks: Sequence[StackRun]) -> None:
        """As `Run.before_down`."""
        from labctl.engine.finishing import all_gone, revive

        above = [stack for stack in stacks if stack.layer != "foundation"]
        if self.session_problem is not None and above and not all_gone(self, above):
            with self.stage("opening the states of the layers above foundation"):
                revive(self)

    def destroyed(self, stack: StackRun) -> None:
        """As `Run.destroyed`."""
        from labctl.engine.finishing import forget_vault

        if stack.layer == "foundation":
            forget_vault(self)
