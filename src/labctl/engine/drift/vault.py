"""Looks at the Vault: how it is set up, which secrets it has, what is about to expire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from labctl.engine.drift.area import Looking, deployed_layers, deployed_outputs
from labctl.engine.session import LOCAL_LAYER
from labctl.model.catalogue import DRIFT, MOUNT
from labctl.model.ci import MOUNT as JWT
from labctl.model.drift import AreaDrift
from labctl.model.drift import vault as compare
from labctl.model.drift.applied import as_applied
from labctl.model.errors import AdapterError, LabError
from labctl.model.vaultroles import RoleSpec, jobs_login

if TYPE_CHECKING:
    from labctl.adapters.vault import AppRoleCredentials, Reading, Vault
    from labctl.engine.labrun import LabRun
    from labctl.model.ci import JwtLogin

LOGIN_TTL_S = 60
_NEEDS_RIGHTS = "`labctl up --layer foundation` gives the login the rights that this version needs."


def look(run: LabRun) -> AreaDrift:
    """The Vault against the catalogue. No value of a secret is asked for."""
    from labctl.adapters.vault import Reading

    area = Looking(compare.AREA)
    if LOCAL_LAYER not in deployed_layers(run):
        return area.told()
    _expiry(run, area)
    if run.session is None:
        error = run.session_problem or AdapterError("it is not open", hint="Run `labctl up --layer foundation`.")
        area.problem("the Vault", error)
        return area.told()
    _vault(run, area, Reading(run.session.vault))
    return area.told()


def nightly_credentials(vault: Vault) -> tuple[AppRoleCredentials, str]:
    """A new secret-id of the nightly check's AppRole, with its role-id, and the accessor that takes it back.

    Earlier ones go on working: each machine has its own.

    Args:
        vault: Logged in as labctl.

    Raises:
        LabError: The Vault refuses, or does not have the role yet.
    """
    from labctl.adapters.vault import Absent, AppRoleCredentials

    try:
        made = vault.unwrap(vault.wrapped_secret_id(DRIFT, LOGIN_TTL_S))
        return AppRoleCredentials(vault.role_id(DRIFT), made["secret_id"]), made["secret_id_accessor"].reveal()
    except Absent as error:
        error.hint = "`labctl up --layer foundation` makes the role of the nightly check."
        raise


def _vault(run: LabRun, area: Looking, reading: Reading) -> None:
    outputs = deployed_outputs(run)
    secrets = _read(area, "the secrets of the Vault", reading.secrets)
    projects = compare.projects_in(secrets or ())
    applied, wanted = compare.declared(as_applied(run.lab, outputs), projects), compare.declared(run.lab, projects)
    if secrets is not None:
        known = {*applied.secrets, *(one.path for one in secrets)}
        gitlab = run.lab.boots and "platform" in deployed_layers(run)
        area.add(len(known), *compare.compare_secrets(applied, wanted, secrets, gitlab=gitlab))
        # What was provisioned is known by its secrets: without them, its policies and roles would be taken for nobody's.
        _access(area, reading, applied, wanted)
    mounts = _read(area, "the engines of the Vault", reading.mounts)
    if mounts is not None:
        settings = None
        if f"{MOUNT}/" in mounts:
            settings = _read(area, f"the settings of the mount {MOUNT}/", reading.kv_settings)
        area.add(len(mounts), compare.compare_mounts(mounts, settings))
    logins = _read(area, "the auth methods of the Vault", reading.logins)
    if logins is not None:
        jobs = jobs_login(run.lab)
        area.add(len(logins), compare.compare_logins(logins, jobs=jobs is not None))
        if jobs is not None and f"{JWT}/" in logins:
            _jobs(area, reading.vault, jobs)
    audit = _read(area, "the audit devices of the Vault", reading.audit_devices)
    if audit is not None:
        area.add(1, compare.compare_audit(audit))


def _jobs(area: Looking, vault: Vault, jobs: JwtLogin) -> None:
    from labctl.adapters.vault import differing_jwt

    found = _read(area, "the login of the repository's jobs", lambda: differing_jwt(vault, jobs))
    if found is not None:
        area.add(1 + len(jobs.roles), compare.compare_jobs_login(found))


def _access(area: Looking, reading: Reading, applied: compare.Declared, wanted: compare.Declared) -> None:
    expected = frozenset((*applied.policies, *wanted.policies))
    policies = _read(area, "the policies of the Vault", lambda: reading.policies(expected))
    if policies is not None:
        area.add(len(expected), compare.compare_policies(applied, wanted, policies))
    roles = _read(area, "the AppRoles of the Vault", reading.roles)
    if roles is not None:
        area.add(len(roles), compare.compare_roles(applied, wanted, roles))
        _secret_ids(area, reading, {name: role for name, role in wanted.roles.items() if name in roles})


def _secret_ids(area: Looking, reading: Reading, roles: Mapping[str, RoleSpec]) -> None:
    lasting = compare.lasting_roles(roles)
    ends = _read(area, "the secret-ids of the Vault", lambda: {role: reading.secret_ids(role) for role in lasting})
    if ends is not None:
        area.add(len(lasting), compare.compare_secret_ids(ends, datetime.now(UTC)))


def _read(area: Looking, what: str, read: Any) -> Any:
    """As `Looking.read`. What a login may not see yet, the next `up` lets it see."""
    from labctl.adapters.vault import Denied

    def told() -> Any:
        try:
            return read()
        except Denied as error:
            error.hint = _NEEDS_RIGHTS
            raise

    return area.read(what, told)


def _authority(run: LabRun) -> str:
    try:
        return run.paths.authority.read_text()
    except OSError as error:
        raise AdapterError(
            f"it cannot be read: {error.strerror}", where=str(run.paths.authority), hint="Copy the folder keys/ here."
        ) from error


def _expiry(run: LabRun, area: Looking) -> None:
    """The certificate that each guest shows, and the authority's."""
    from labctl.adapters.pki import expires_in, shown

    left: dict[str, timedelta] = {}
    authority = area.read("the certificate of the authority", lambda: expires_in(_authority(run)))
    left |= {"": authority} if authority is not None else {}
    for name, guest in run.outputs(LOCAL_LAYER).get("guests", {}).items():
        spec = next((one for one in run.lab.guests() if one.name == name and one.role.cert), None)
        if spec is None:
            continue
        address, port = str(guest["address"]), spec.role.port
        pem = shown(address, port)
        if pem is None:
            error: LabError = AdapterError(
                f"nothing shows one at {address}:{port}",
                hint=f"`labctl status` tells whether {spec.role.unit} runs on guest {name}; `labctl up` starts it.",
            )
            area.problem(f"the certificate of guest {name}", error)
        else:
            left[name] = expires_in(pem)
    area.add(len(left), compare.compare_expiry(left))
