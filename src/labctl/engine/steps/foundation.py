"""Foundation's steps in order: certificates, Vault, object store. Each checks first: a second run finds nothing to do."""

from __future__ import annotations

from labctl.adapters.objectstore import ObjectStore
from labctl.adapters.vault import Vault
from labctl.engine.identity import AUTHORITY, SSH_KEY, read_authority, read_ssh_key, recipients
from labctl.engine.labrun import LabRun
from labctl.engine.session import LabSession, open_session
from labctl.engine.steps.certificates import ensure_certificate
from labctl.engine.steps.guests import ComingUp, patience
from labctl.engine.steps.logins import job_login
from labctl.engine.steps.store import deliver_credentials, ensure_buckets, store_access
from labctl.engine.steps.vault import ensure_vault
from labctl.model.catalogue import PLATFORM_SSH
from labctl.model.contracts import FoundationContract
from labctl.model.errors import AdapterError
from labctl.model.guestfiles import VAULT_AUDIT_LOG, VAULT_RESET_UNIT

STORE_S = 120.0
"""How long the store may take to answer; it is installed by then."""
LAYER = "foundation"


def foundation_steps(run: LabRun, contract: FoundationContract) -> list[str]:
    """Runs the steps; returns what they changed, a line each."""

    def say(text: str) -> None:
        run.say(text, LAYER, kind="step")

    changes = []
    authority_pem = run.paths.authority.read_text()
    for name in ("vault", "store"):
        output = contract.guests[name]
        guest = ComingUp(run, LAYER, name, output)
        guest.wait_for_agent()
        if ensure_certificate(
            run.hypervisor,
            run.lab.guest(name),
            output,
            authority_pem,
            lambda: read_authority(run.keyring, run.identities),
            timeout_s=patience(run.lab).boot_s,
            say=say,
            booting=guest,
        ):
            changes.append(f"certificate of guest {name} signed")
        guest.learn_host_key()
    run.interrupts.check()
    changes += _vault(run, contract)
    run.interrupts.check()
    changes += store_steps(run, contract)
    return changes


def _vault(run: LabRun, contract: FoundationContract) -> list[str]:
    vmid = contract.guests["vault"].vmid

    def reset() -> None:
        run.hypervisor.exec(vmid, ["systemctl", "start", VAULT_RESET_UNIT]).check(f"systemctl start {VAULT_RESET_UNIT}")

    def audit_log() -> str:
        return (run.hypervisor.file_read(vmid, VAULT_AUDIT_LOG, missing_ok=True) or b"").decode(errors="replace")

    ready = ensure_vault(
        lambda: Vault(contract.vault_address, run.paths.authority),
        run.keyring,
        recipients(run.lab, run.paths),
        run.identities,
        run.lab,
        reset,
        lambda text: run.say(text, LAYER, kind="step"),
        audit_log=audit_log,
    )
    if run.session is not None:
        run.session.close()
    run.session = open_session(run.lab, run.paths, ready.client, contract.model_dump())
    return [*ready.changes, *_keys(run, absent=PLATFORM_SSH in ready.seeded.awaited)]


def _keys(run: LabRun, *, absent: bool) -> list[str]:
    """The Vault gets a copy of labctl's SSH key, and the key files follow a change of the operators."""
    changes = []
    if absent:
        _session(run).vault.write(PLATFORM_SSH, {"private_key": read_ssh_key(run.keyring, run.identities)}, cas=0)
        changes.append(f"secret {PLATFORM_SSH} written")
    operators = recipients(run.lab, run.paths)
    moved = [
        name for name in (() if job_login() else (AUTHORITY, SSH_KEY)) if run.keyring.rewrap(name, operators, run.identities)
    ]
    return changes + [f"key file {name} encrypted to the operators that lab.yaml lists now" for name in moved]


def store_steps(run: LabRun, contract: FoundationContract) -> list[str]:
    """The object store gets its credentials and its buckets; returns what changed, a line each."""
    session = _session(run)
    access = store_access(session.vault, run.lab)
    root = access.root
    store = ObjectStore(contract.s3_endpoint, contract.s3_region, root.access_key, root.secret_key, run.paths.authority)

    def say(text: str) -> None:
        run.say(text, LAYER, kind="step")

    found, output = run.lab.guest("store"), contract.guests["store"]
    delivered = deliver_credentials(run.hypervisor, found, output, access.identities, say)
    run.say("waiting for the object store", LAYER, kind="progress")
    with run.interrupts.raising():
        store.wait_ready(timeout_s=STORE_S)
    made = ensure_buckets(store, list(dict.fromkeys((*contract.buckets, *access.provisioned))), say)
    return [*(["the object store's credentials delivered"] if delivered else []), *(f"bucket {name} made" for name in made)]


def _session(run: LabRun) -> LabSession:
    if run.session is None:
        raise AdapterError("the Vault is not open", where=LAYER)
    return run.session
