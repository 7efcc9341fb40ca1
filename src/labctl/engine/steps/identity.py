"""Step: a guest gets its one-time identity for the Vault, and logs in with it.

labctl asks the Vault for a secret-id that works once, wrapped in a token that works once, and puts the token into the guest's
memory. The guest's own agent unwraps it, logs in, and renders what the guest may read. Whoever takes the token on the way makes
the guest fail, and that is how it is noticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from labctl.engine.guestunits import unit_state
from labctl.model.errors import AdapterError
from labctl.model.guestfiles import IDENTITY_UNIT, ROLE_ID, WRAPPED_SECRET_ID
from labctl.model.guestlogin import FailedLogin, Failure, judge_login
from labctl.model.vaultroles import GUEST_WRAPPING_TTL_S, guest_role

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox
    from labctl.adapters.vault import Vault
    from labctl.engine.labrun import LabRun
    from labctl.model.contracts import GuestOutput
    from labctl.model.lab import GuestSpec

START_TIMEOUT_S = 120.0
_DRAFT = f"{WRAPPED_SECRET_ID}.new"
_TRIES = 2
_LOG_LINES = 80


class Tampered(AdapterError):
    """Somebody else used a guest's one-time identity."""


def hand_identity(run: LabRun, layer: str, name: str, output: GuestOutput, *, anew: bool = False) -> bool:
    """Hands a guest its identity where it has none, or anew, so that it sees at once what is new in the Vault.

    Raises:
        LabError: The guest cannot log in, or somebody else used its identity.
    """
    if run.session is None:
        raise AdapterError("the Vault is not open", where=layer)
    with run.interrupts.raising():
        return ensure_identity(
            run.hypervisor,
            run.session.vault,
            run.lab.guest(name),
            output,
            lambda text: run.say(text, layer, kind="step"),
            warn=lambda text: run.say(text, layer, kind="warning"),
            anew=anew,
        )


def ensure_identity(
    hypervisor: Proxmox,
    vault: Vault,
    guest: GuestSpec,
    output: GuestOutput,
    say: Callable[[str], None],
    *,
    warn: Callable[[str], None],
    anew: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Hands the guest an identity where it is not logged in; says whether it did.

    It may be cut off anywhere: the next run withdraws what is out, and begins again.

    Args:
        hypervisor: Whose agent calls reach the guest.
        vault: Logged in as labctl.
        guest: The guest.
        output: The guest as platform published it.
        say: Where progress goes.
        warn: Where warnings go.
        anew: Also where it is logged in: it then sees at once what is new in the Vault, not within a minute.
        clock: Seconds.

    Raises:
        Tampered: Its identity was used by somebody else. What he had from it is revoked.
        LabError: The Vault refuses, or the guest cannot log in.
    """
    unit = unit_state(hypervisor, output.vmid, IDENTITY_UNIT)
    if unit.state == "activating":
        # An earlier run was cut off while the guest logged in.
        hypervisor.exec(output.vmid, ["systemctl", "start", IDENTITY_UNIT], timeout_s=START_TIMEOUT_S)
        unit = unit_state(hypervisor, output.vmid, IDENTITY_UNIT)
    if unit.active and not anew:
        return False
    if unit.missing:
        warn(
            f"guest {guest.name} has no {IDENTITY_UNIT}, which reads its secrets from the Vault: it was made by an earlier "
            "labctl. Make it anew to give it one."
        )
        return False
    say(f"handing guest {guest.name} its one-time identity")
    failed = FailedLogin(Failure.UNKNOWN, ())
    for _ in range(_TRIES):
        outcome = _hand_over(hypervisor, vault, guest, output, clock)
        if outcome is None:
            return True
        failed = outcome
        if not failed.failure.passing:
            break
    if failed.failure is Failure.TAMPERED:
        raise _tampered(vault, guest)
    vault.withdraw_secret_ids(guest_role(guest))
    raise AdapterError(
        f"cannot log in to the Vault: {_REASONS.get(failed.failure, 'it does not say why')}",
        where=f"guest {guest.name}",
        hint="\n".join([*(f"  {line[:160]}" for line in failed.lines), _HINTS.get(failed.failure, _LOOK)]).format(
            name=guest.name
        ),
    )


def _hand_over(
    hypervisor: Proxmox, vault: Vault, guest: GuestSpec, output: GuestOutput, clock: Callable[[], float]
) -> FailedLogin | None:
    """One try; None when the guest is logged in."""
    role = guest_role(guest)
    # Whatever an earlier try left out there, nobody is to log in with it any more.
    vault.withdraw_secret_ids(role)
    hypervisor.exec(output.vmid, ["systemctl", "stop", IDENTITY_UNIT]).check(f"systemctl stop {IDENTITY_UNIT}")
    # Its own last login, that of before a reboot: a guest has one at a time.
    vault.end_logins(role)
    hypervisor.file_write(output.vmid, ROLE_ID, vault.role_id(role))
    token, born = vault.wrapped_secret_id(role, GUEST_WRAPPING_TTL_S), clock()
    # By another name first: the guest looks out for this one, and would read it half written.
    hypervisor.file_write(output.vmid, _DRAFT, token)
    hypervisor.exec(output.vmid, ["mv", "-f", _DRAFT, WRAPPED_SECRET_ID]).check(f"mv {_DRAFT}")
    hypervisor.exec(output.vmid, ["systemctl", "start", IDENTITY_UNIT], timeout_s=START_TIMEOUT_S)
    if unit_state(hypervisor, output.vmid, IDENTITY_UNIT).active:
        return None
    age_s = clock() - born
    log = hypervisor.exec(
        output.vmid,
        ["journalctl", "--boot", "--no-pager", "--output=cat", f"--lines={_LOG_LINES}", f"--unit={IDENTITY_UNIT}"],
    ).out
    failed = judge_login(log, age_s=age_s, ttl_s=GUEST_WRAPPING_TTL_S)
    if failed.failure is Failure.TAMPERED and vault.wrapping_alive(token):
        # Nobody used it. The guest asked another Vault, or was given another token.
        return FailedLogin(Failure.UNKNOWN, failed.lines)
    return failed


def _tampered(vault: Vault, guest: GuestSpec) -> Tampered:
    role = guest_role(guest)
    withdrawn, ended = vault.withdraw_secret_ids(role), vault.end_logins(role)
    return Tampered(
        "its one-time identity was used by somebody else before the guest could: this is tampering",
        where=f"guest {guest.name}",
        hint=f"What came of it is worth nothing now: {withdrawn} unused secret-ids destroyed, {ended} logins of {role} revoked.\n"
        f"Until then somebody could read the secrets of reader {guest.role.name} (`labctl secrets list`). Each reading is in\n"
        "the audit log of guest vault with its address (/var/log/openbao/audit.log): where there is one, change those secrets.\n"
        "Who may use the guest agent on the hypervisor can do this: look who has VM.GuestAgent rights there.\n"
        "`labctl up` hands out a new identity.",
    )


_LOOK = f"`labctl ssh {{name}} -- sudo journalctl --boot --unit={IDENTITY_UNIT}` shows all that it said."
_REASONS = {
    Failure.EXPIRED: f"it took longer than the {GUEST_WRAPPING_TTL_S} s that its wrapping token lives",
    Failure.SEALED: "the Vault is sealed",
    Failure.UNREACHABLE: "it does not reach the Vault",
    Failure.UNTRUSTED: "it does not trust the Vault's certificate",
    Failure.REFUSED: "the Vault refuses it",
    Failure.EMPTY: "what labctl wrote did not arrive",
}
_HINTS = {
    Failure.EXPIRED: "Is the guest very busy, or are the clocks apart? `labctl up` hands out a new one.",
    Failure.SEALED: "`labctl vault unseal`, then `labctl up`.",
    Failure.UNREACHABLE: "Can the guest reach guest vault on port 8200? Then run `labctl up` again.",
    Failure.UNTRUSTED: "Compare the clocks of the guests; a guest that was made for another lab's authority must be made anew.",
    Failure.REFUSED: "Does the guest have the address that lab.yaml gives it? The Vault lets it in from there only.",
}
