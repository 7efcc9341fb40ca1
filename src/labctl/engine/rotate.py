"""`labctl secrets rotate`: a secret gets a new value, and its users get it, each after those that it needs.

Two runs after one another: the first writes the value into the Vault, once the lab is seen to be as described; the second is an
`up` that may do nothing but what the new value brings about. Cut off between the two, the next `labctl up` does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.adapters.vault.seed import generate
from labctl.engine.plan import plan
from labctl.engine.steps.foundation import store_steps
from labctl.engine.steps.identity import hand_identity
from labctl.engine.up import up
from labctl.model.catalogue import STORE_ROOT, bucket_secrets
from labctl.model.contracts import FoundationContract, PlatformContract
from labctl.model.errors import UserError
from labctl.model.plan import StackStatus
from labctl.model.rotation import Rotation, beyond_rotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.engine.labrun import LabRun
    from labctl.engine.report import Report
    from labctl.model.plan import StackPlan


def write_new_value(run: LabRun, what: Rotation) -> int:
    """Writes the new value; returns its version. The old one stays among the secret's versions.

    Raises:
        UserError: The lab is not as described: bringing it there is not this command's.
        LabError: A plan could not be made; the Vault refuses, or somebody else wrote the secret at the same time.
    """
    picture = plan(run)
    odd = [f"{one.stack}: {one.status}" for one in picture.plans if one.status is not StackStatus.NO_CHANGES]
    if odd:
        raise UserError(
            f"the lab is not as described ({', '.join(odd)}), and a rotation changes nothing else",
            hint="`labctl up` first, then rotate.",
        )
    assert run.session is not None  # a plan without the Vault is not one of no changes
    vault = run.session.vault
    with run.stage("rotating"):
        version, held = vault.read(what.path)
        new = {name: generate(generator) for name, generator in what.fields.items()}
        written = vault.write(what.path, {**held, **new}, cas=version)
        run.say(f"secret {what.path} has a new value, version {written}", kind="step")
        if what.path in (STORE_ROOT, *bucket_secrets(run.lab).values()):
            # At once: states lie in there, and the next run reads them with the new credentials.
            store_steps(run, FoundationContract.model_validate(run.outputs("foundation")))
    return written


def bring_to_users(run: LabRun, what: Rotation) -> Report:
    """An `up` that may do nothing but give the new value to its users; then the guests that read it see it at once.

    Raises:
        UserError: There is more to do.
        LabError: As `up`.
    """
    report = up(run)
    contract = PlatformContract.model_validate(run.outputs("platform")) if what.guests else None
    for name in what.guests:
        assert contract is not None
        hand_identity(run, "platform", name, contract.guests[name], anew=True)
    return report


def only_its_users(what: Rotation, plans: Sequence[StackPlan]) -> bool:
    """Answers an `up`'s question.

    Raises:
        UserError: The plans do more than give the new value to its users.
    """
    more = list(beyond_rotation(what, plans))
    if more:
        raise UserError(
            f"there is more to do now than to give {what.path} to its users: {'; '.join(more)}",
            hint="The new value is in the Vault. `labctl up` shows and does the rest.",
        )
    return True
