"""Foundation's steps in order: certificates, Vault, object store. Each checks first: a second run finds nothing to do."""

from __future__ import annotations

from labctl.adapters.objectstore import Credentials, ObjectStore, identities
from labctl.adapters.vault import Vault
from labctl.engine.identity import read_authority, recipients
from labctl.engine.labrun import LabRun
from labctl.engine.session import LabSession, open_session
from labctl.engine.steps.certificates import ensure_certificate
from labctl.engine.steps.store import deliver_credentials, ensure_buckets
from labctl.engine.steps.vault import ensure_vault
from labctl.model.catalogue import STORE_ROOT, bucket_secrets
from labctl.model.contracts import FoundationContract
from labctl.model.errors import AdapterError
from labctl.model.guestfiles import VAULT_AUDIT_LOG, VAULT_RESET_UNIT

BOOTED_S, APPLIANCE_S = 900.0, 60.0
"""How long a first boot may take. One that really boots fetches packages."""
STORE_S = 120.0
"""How long the store may take to answer; it is installed by then."""
LAYER = "foundation"


def foundation_steps(run: LabRun, contract: FoundationContract) -> list[str]:
    """Runs the steps; returns what they changed, a line each."""

    def say(text: str) -> None:
        run.say(text, LAYER, kind="step")

    changes = []
    timeout_s = BOOTED_S if run.lab.boots else APPLIANCE_S
    authority_pem = run.paths.authority.read_text()
    for name in ("vault", "store"):
        output = contract.guests[name]
        run.say(f"waiting for the agent of guest {name}", LAYER, kind="progress")
        with run.interrupts.raising():
            run.hypervisor.agent_wait(output.vmid, timeout_s, say)
        if ensure_certificate(
            run.hypervisor,
            run.lab.guest(name),
            output,
            authority_pem,
            lambda: read_authority(run.keyring, run.identities),
            timeout_s=timeout_s,
            say=say,
            waiting=run.interrupts.raising,
        ):
            changes.append(f"certificate of guest {name} signed")
        if run.lab.boots:
            # Signed meanwhile; what follows needs what cloud-init installs.
            with run.interrupts.raising():
                run.hypervisor.exec(output.vmid, ["cloud-init", "status", "--wait"], timeout_s=timeout_s)
    run.interrupts.check()
    changes += _vault(run, contract)
    run.interrupts.check()
    changes += _store(run, contract)
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
    return list(ready.changes)


def _store(run: LabRun, contract: FoundationContract) -> list[str]:
    session = _session(run)
    root = _credentials(session.vault, STORE_ROOT)
    buckets = {bucket: _credentials(session.vault, path) for bucket, path in bucket_secrets(run.lab).items()}
    store = ObjectStore(contract.s3_endpoint, contract.s3_region, root.access_key, root.secret_key, run.paths.authority)

    def say(text: str) -> None:
        run.say(text, LAYER, kind="step")

    found, output = run.lab.guest("store"), contract.guests["store"]
    delivered = deliver_credentials(run.hypervisor, found, output, identities(root, buckets), say)
    run.say("waiting for the object store", LAYER, kind="progress")
    with run.interrupts.raising():
        store.wait_ready(timeout_s=STORE_S)
    made = ensure_buckets(store, contract.buckets, say)
    return [*(["the object store's credentials delivered"] if delivered else []), *(f"bucket {name} made" for name in made)]


def _credentials(vault: Vault, path: str) -> Credentials:
    _version, fields = vault.read(path)
    return Credentials(fields["access_key"], fields["secret_key"])


def _session(run: LabRun) -> LabSession:
    if run.session is None:
        raise AdapterError("the Vault is not open", where=LAYER)
    return run.session
