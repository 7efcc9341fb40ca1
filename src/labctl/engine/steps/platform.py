"""Platform's steps in order: each guest's first boot and identity, then GitLab. A second run finds nothing to do."""

from __future__ import annotations

from labctl.engine.labrun import LabRun
from labctl.engine.steps.gitlab import gitlab_steps
from labctl.engine.steps.guests import ComingUp
from labctl.engine.steps.identity import ensure_identity
from labctl.model.contracts import GuestOutput, PlatformContract
from labctl.model.errors import AdapterError

LAYER = "platform"


def platform_steps(run: LabRun, contract: PlatformContract) -> list[str]:
    """Runs the steps; returns what they changed, a line each."""
    changes = []
    for spec in run.lab.guests():
        if spec.name not in contract.guests:
            continue
        name, output = spec.name, contract.guests[spec.name]
        guest = ComingUp(run, LAYER, name, output)
        guest.wait_for_agent()
        guest.wait_for_boot()
        guest.learn_host_key()
        run.interrupts.check()
        if spec.role.identity and hand_identity(run, name, output):
            changes.append(f"guest {name} logged in to the Vault with a new identity")
        run.interrupts.check()
    return changes + (gitlab_steps(run, contract) if run.lab.boots else [])


def hand_identity(run: LabRun, name: str, output: GuestOutput, *, anew: bool = False) -> bool:
    """Hands a guest its identity where it has none, or anew, so that it sees at once what is new in the Vault.

    Raises:
        LabError: The guest cannot log in, or somebody else used its identity.
    """
    if run.session is None:
        raise AdapterError("the Vault is not open", where=LAYER)
    with run.interrupts.raising():
        return ensure_identity(
            run.hypervisor,
            run.session.vault,
            run.lab.guest(name),
            output,
            lambda text: run.say(text, LAYER, kind="step"),
            warn=lambda text: run.say(text, LAYER, kind="warning"),
            anew=anew,
        )
