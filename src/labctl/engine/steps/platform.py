"""Platform's steps in order: each guest's first boot and identity, then GitLab. A second run finds nothing to do."""

from __future__ import annotations

from labctl.engine.labrun import LabRun
from labctl.engine.steps.gitlab import gitlab_steps
from labctl.engine.steps.guests import ComingUp
from labctl.engine.steps.identity import hand_identity
from labctl.model.contracts import PlatformContract

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
        if spec.role.identity and hand_identity(run, LAYER, name, output):
            changes.append(f"guest {name} logged in to the Vault with a new identity")
        run.interrupts.check()
    changes += gitlab_steps(run, contract) if run.lab.boots else []
    return changes + _service_images(run)


def _service_images(run: LabRun) -> list[str]:
    """On the sandbox: builds what its own registry is to serve: images of services, and those that apps are built on."""
    own = run.lab.sandbox_images
    if not own:
        return []
    from labctl.sandbox.images.build import ensure_images

    with run.interrupts.raising():
        made = ensure_images(own, lambda text: run.say(text, LAYER, kind="progress"))
    return [f"image of {name} built" for name, ready in made.items() if ready.built]
