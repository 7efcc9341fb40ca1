"""`labctl doctor`: what the lab needs, checked one by one; nothing is changed or started."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

from labctl.adapters.terraform import BPG_PROXMOX, find_engine, find_provider
from labctl.engine.identity import identities
from labctl.engine.lab import OpenLab
from labctl.engine.session import local_state
from labctl.engine.status import stack_states
from labctl.engine.target import running_target
from labctl.model.errors import LabError
from labctl.model.preflight import Check, checks

MIN_FREE_GIB = 2


def examine(found: OpenLab) -> Iterator[Check]:
    """Every check, in the order in which `up` meets them."""
    yield _engine()
    yield _provider(found)
    yield _disk(found)
    yield _operator(found)
    yield from _target(found)
    yield _vault(found)


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
        ours = {vmid for _stack, state in stack_states(found, (), []) for vmid in state.vmids}
        with Proxmox.connect(target.endpoint, target.token_id, target.token, target.ca_file) as hypervisor:
            yield from checks(gather(hypervisor, found.lab), found.lab, ours)
    except LabError as error:
        yield Check("target", "target", "fail", str(error), error.hint)


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
