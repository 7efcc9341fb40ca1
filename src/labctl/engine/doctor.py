"""`labctl doctor`: what the lab needs, checked one by one; nothing is changed or started."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from labctl.adapters.pki import expires_in
from labctl.adapters.terraform import BPG_PROXMOX, find_engine, find_provider
from labctl.engine.identity import identities
from labctl.engine.lab import OpenLab
from labctl.engine.session import local_state
from labctl.engine.status import cloud_init, lab_session, stack_states
from labctl.engine.steps.certificates import RENEW_BEFORE
from labctl.engine.target import running_target
from labctl.model.cloudinit import Boot
from labctl.model.contracts import GuestOutput
from labctl.model.errors import LabError
from labctl.model.preflight import Check, checks
from labctl.model.state import STATE_BUCKET

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox

MIN_FREE_GIB = 2
LOCK_PROBE_S = 10.0


def examine(found: OpenLab) -> Iterator[Check]:
    """Every check, in the order in which `up` meets them."""
    yield _engine()
    yield _provider(found)
    yield _disk(found)
    yield _operator(found)
    yield from _target(found)
    yield _authority(found)
    yield _vault(found)
    yield from _store(found)


def _checked(name: str, title: str, look: Callable[[], tuple[str, str, str]]) -> Check:
    try:
        verdict, detail, remedy = look()
    except LabError as error:
        verdict, detail, remedy = "fail", str(error), error.hint
    return Check(name, title, verdict, detail, remedy)  # type: ignore[arg-type]  # the literals below


def _engine() -> Check:
    return _checked("engine", "Terraform engine", lambda: ("ok", str(find_engine()), ""))


def _provider(found: OpenLab) -> Check:
    def look() -> tuple[str, str, str]:
        entry = find_provider(found.paths.mirror, BPG_PROXMOX, host=find_engine().registry_host)
        if entry is None:
            how = f"with Go at {shutil.which('go')}" if shutil.which("go") else "from the registry"
            return "warn", f"not in the mirror yet; it is fetched or built {how} on the first `up`", "labctl mirror"
        return "ok", f"{entry.source} {entry.version}", ""

    return _checked("provider", "Terraform provider", look)


def _disk(found: OpenLab) -> Check:
    def look() -> tuple[str, str, str]:
        free_gib = shutil.disk_usage(found.paths.file.parent).free / 2**30
        verdict = "ok" if free_gib >= MIN_FREE_GIB else "fail"
        return verdict, f"{free_gib:.0f} GiB free for .labctl and .cache", "" if verdict == "ok" else f"Free {MIN_FREE_GIB} GiB."

    return _checked("disk", "disk space here", look)


def _operator(found: OpenLab) -> Check:
    def look() -> tuple[str, str, str]:
        files = identities(found.paths)
        if files:
            return "ok", ", ".join(str(file) for file in files), ""
        if found.lab.target.sandbox:
            return "ok", "made on the first `up`", ""
        return "warn", "no identity file found; `up` needs one to unseal the Vault", "export LABCTL_IDENTITY=FILE"

    return _checked("operator", "operator's key", look)


def _target(found: OpenLab) -> Iterator[Check]:
    from labctl.adapters.proxmox import Proxmox, gather

    try:
        target = running_target(found.lab, found.paths)
        if target is None:
            yield Check("target", "target", "warn", "the sandbox is not running", "labctl sandbox start")
            return
        states = [state for _stack, state in stack_states(found, (), [])]
        ours = {vmid for state in states for vmid in state.vmids}
        with Proxmox.connect(target.endpoint, target.token_id, target.token, target.ca_file) as hypervisor:
            yield from checks(gather(hypervisor, found.lab), found.lab, ours)
            for state in states:
                for name, output in (state.outputs or {}).get("guests", {}).items():
                    yield _guest(hypervisor, name, GuestOutput.model_validate(output))
    except LabError as error:
        yield Check("target", "target", "fail", str(error), error.hint)


def _guest(hypervisor: Proxmox, name: str, output: GuestOutput) -> Check:
    """Whether a guest runs, its agent answers, and its first boot went well."""
    vmid = output.vmid

    def look() -> tuple[str, str, str]:
        status = hypervisor.status(vmid).status
        if status != "running":
            return "fail", f"is {status}", f"labctl up (or, on the node: qm start {vmid})"
        if not hypervisor.agent_ping(vmid):
            remedy = f"its console tells why (on the node: qm terminal {vmid}); in the guest: systemctl restart qemu-guest-agent"
            return "fail", "runs, but its agent does not answer", remedy
        verdict = cloud_init(hypervisor, vmid)["cloud_init"]
        if verdict == Boot.ERROR:
            return "fail", "cloud-init failed", f"labctl console {name}"
        return "ok", f"runs, agent answers, cloud-init {verdict}", ""

    return _checked(f"guest.{name}", f"guest {name}", look)


def _authority(found: OpenLab) -> Check:
    def look() -> tuple[str, str, str]:
        if not found.paths.authority.is_file():
            return "ok", "made on the first `up`", ""
        left = expires_in(found.paths.authority.read_text())
        days = left // timedelta(days=1)
        if left > RENEW_BEFORE:
            return "ok", f"valid for {days} days", ""
        remedy = "guests trust it from their first boot: back up what is in them, then `labctl down` and `labctl up`"
        return ("warn", f"expires in {days} days", remedy) if left >= timedelta() else ("fail", "has expired", remedy)

    return _checked("authority", "the lab's authority", look)


def _store(found: OpenLab) -> Iterator[Check]:
    """Whether the object store answers with the state bucket's credentials, and can lock."""
    foundation = local_state(found.paths, "foundation").outputs or {}
    if "s3_endpoint" not in foundation:
        return

    def look() -> tuple[str, str, str]:
        session = lab_session(found, foundation)
        try:
            session.state_store.lock_probe(STATE_BUCKET, LOCK_PROBE_S)
        finally:
            session.close()
        return "ok", f"{session.endpoint} answers, and locks", ""

    yield _checked("store", "object store", look)


def _vault(found: OpenLab) -> Check:
    def look() -> tuple[str, str, str]:
        from labctl.adapters.vault import Vault

        outputs = local_state(found.paths, "foundation").outputs or {}
        if "vault_address" not in outputs:
            return "ok", "foundation is not up yet", ""
        status = Vault(str(outputs["vault_address"]), found.paths.authority).status()
        if not status.reachable:
            return "fail", status.problem, status.hint
        if status.sealed:
            return "fail", "sealed", "labctl vault unseal"
        return "ok", f"OpenBao {status.version}, unsealed", ""

    return _checked("vault", "Vault", look)
