"""The Vault against the catalogue: policies, mounts, logins, roles, secrets, and what is about to expire. Pure.

A value of a secret is never asked for: names, versions and the names of fields are enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from labctl.model.approle import differing, role_parameters
from labctl.model.catalogue import (
    DRIFT,
    GITLAB_REGISTRY,
    MAX_VERSIONS,
    MOUNT,
    OPERATOR,
    PROVIDER,
    SecretSpec,
    catalogue,
    generated_fields,
)
from labctl.model.ci import MOUNT as JWT
from labctl.model.drift.finding import Change, Finding, Kind, Severity
from labctl.model.lab import Lab
from labctl.model.projects import Entry, Provisioned, project_approle, project_policy, provisioned
from labctl.model.vaultroles import RoleSpec, approles, policies

AREA = "vault"
EXPIRES_SOON = timedelta(days=21)
"""Of certificates. `labctl up` renews those of guests from 30 days before their end on."""
SECRET_ID_ENDS_SOON = timedelta(days=7)
BUILT_IN_POLICIES = frozenset({"default", "root", "response-wrapping", "control-group"})
BUILT_IN_TYPES = frozenset({"system", "identity", "cubbyhole", "token", "ns_system", "ns_identity", "ns_cubbyhole", "ns_token"})
APPROLE = "approle/"
_AGAIN = "`labctl up --layer foundation` brings it back."
_NOT_YET = "it is not there yet"
_RIGHTS = ("policies", "cidrs", "bind_secret_id", "num_uses")
"""Settings of an AppRole with such a word in their name say who gets in, and to what."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A secrets engine or an auth method: its type, and its version where it has one."""

    type: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class FoundSecret:
    """A secret that is there.

    Attributes:
        path: Where.
        version: Its newest version; 0 where it has metadata only.
        fields: The names of its fields; None where its newest version is gone.
        deleted: The newest version was deleted, and can be brought back.
        destroyed: The newest version was destroyed for good.
        alive: The newest version that can be read; 0 for none.
    """

    path: str
    version: int
    fields: frozenset[str] | None
    deleted: bool = False
    destroyed: bool = False
    alive: int = 0


@dataclass(frozen=True, slots=True)
class Declared:
    """What a Vault should have.

    Attributes:
        policies: Policy documents by name.
        roles: AppRoles by name.
        secrets: The catalogue, by path.
    """

    policies: Mapping[str, str]
    roles: Mapping[str, RoleSpec]
    secrets: Mapping[str, SecretSpec]


def declared(lab: Lab, projects: Sequence[Provisioned] = ()) -> Declared:
    """What the lab and what was provisioned need."""
    reading = [one for one in projects if one.role]
    return Declared(
        {**policies(lab), **{one.role: project_policy(one.kind, one.name) for one in reading}},
        {role.name: role for role in (*approles(lab), *(project_approle(one.kind, one.name) for one in reading))},
        {spec.path: spec for spec in catalogue(lab)},
    )


def projects_in(secrets: Sequence[FoundSecret]) -> tuple[Provisioned, ...]:
    """What `labctl provision` has made, by what the Vault has of it."""
    return provisioned(Entry(one.path, "", deleted=one.fields is None) for one in secrets)


# --- policies


def compare_policies(applied: Declared, wanted: Declared, found: Mapping[str, str | None]) -> Iterator[Finding]:
    """Those that differ, are missing, or are nobody's.

    Args:
        applied: As the lab was applied last.
        wanted: As lab.yaml has it now.
        found: The documents that are there, by name; None for one that was not read.
    """
    for name in sorted({*applied.policies, *wanted.policies}):
        was, now, is_ = applied.policies.get(name), wanted.policies.get(name), found.get(name)
        as_applied, as_wanted = _normal(is_) == _normal(was), _normal(is_) == _normal(now)
        if as_wanted or (as_applied and now is None):
            continue
        if as_applied:
            yield _pending("policy", name, "it is as the lab was applied last, and lab.yaml has changed since")
        elif is_ is not None:
            yield _changed_policy(name, now or was or "", is_)
        elif now is not None:
            yield _pending("policy", name, _NOT_YET) if was is None or name == DRIFT else _missing("policy", name)
    for name in sorted(found.keys() - applied.policies.keys() - wanted.policies.keys() - BUILT_IN_POLICIES):
        yield _unmanaged("policy", name, f"the Vault has policy {name}, which nobody declared")


def _changed_policy(name: str, wanted: str, found: str) -> Finding:
    changes, wider = _rules(wanted, found)
    if name == OPERATOR and not wider:
        return _pending("policy", name, "it lacks rights that this version of labctl is given")
    how = "lets its holders do more or other things than the catalogue says" if wider else "lacks rights"
    severity = Severity.HIGH if wider else Severity.MEDIUM
    text = f"policy {name} was changed: it {how}. {_AGAIN}"
    return Finding(AREA, Kind.CHANGED, f"policy/{name}", text, severity, changes=changes)


def _rules(wanted: str, found: str) -> tuple[tuple[Change, ...], bool]:
    """The paths whose rules differ, and whether anything is allowed that should not be."""
    want, have = _document(wanted), _document(found)
    if want is None or have is None:
        return (Change("text", "as in the catalogue", "another text"),), True
    names = sorted(path for path in {*want, *have} if want.get(path) != have.get(path))
    changes = tuple(Change(path, _shown(want.get(path)), _shown(have.get(path))) for path in names)
    return changes, any(not _within(have[path], want.get(path)) for path in names if path in have)


def _within(rule: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    if wanted is None:
        return False
    others = {key: value for key, value in rule.items() if key != "capabilities"}
    same = others == {key: value for key, value in wanted.items() if key != "capabilities"}
    return same and set(rule.get("capabilities", ())) <= set(wanted.get("capabilities", ()))


def _shown(rule: Mapping[str, Any] | None) -> Any:
    if rule is None:
        return None
    return ", ".join(rule.get("capabilities", ())) if set(rule) == {"capabilities"} else json.dumps(rule, sort_keys=True)


def _document(text: str) -> dict[str, dict[str, Any]] | None:
    """The rules by path, the order of capabilities aside; None where it is written in HCL's own way."""
    try:
        rules: dict[str, dict[str, Any]] = json.loads(text)["path"]
        return {path: {**rule, "capabilities": sorted(rule.get("capabilities", ()))} for path, rule in rules.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _normal(text: str | None) -> Any:
    """White space and the order of capabilities make no other policy."""
    return None if text is None else _document(text) or " ".join(text.split())


# --- mounts, logins, audit


def compare_mounts(found: Mapping[str, Mount], settings: Mapping[str, Any] | None) -> Iterator[Finding]:
    """The lab's KV mount, its settings (None: not looked at), and engines that nobody declared."""
    own = found.get(f"{MOUNT}/")
    if own is None:
        yield Finding(AREA, Kind.MISSING, f"mount/{MOUNT}/", f"the mount {MOUNT}/ with the lab's secrets is gone", Severity.HIGH)
    elif own != Mount("kv", "2"):
        kind = (Change("type", "kv", own.type), Change("version", "2", own.version))
        text = f"the mount {MOUNT}/ is no longer KV version 2"
        yield Finding(AREA, Kind.CHANGED, f"mount/{MOUNT}/", text, Severity.HIGH, changes=kind)
    elif settings is not None:
        wanted = {"cas_required": True, "max_versions": MAX_VERSIONS}
        if names := differing(wanted, settings):
            changes = tuple(Change(name, wanted[name], settings.get(name)) for name in names)
            text = f"the settings of the mount {MOUNT}/ were changed: {_pairs(changes)}. {_AGAIN}"
            yield Finding(AREA, Kind.CHANGED, f"mount/{MOUNT}/", text, Severity.HIGH, changes=changes)
    for path, mount in found.items():
        if path != f"{MOUNT}/" and mount.type not in BUILT_IN_TYPES:
            yield _unmanaged("mount", path, f"the Vault has an engine {mount.type} at {path}, which nobody declared")


def compare_logins(found: Mapping[str, Mount], *, jobs: bool = False) -> Iterator[Finding]:
    """The auth methods: AppRole is the only way in, and, where lab.yaml has `ci`, the tokens of the repository's jobs."""
    own = found.get(APPROLE)
    if own is None or own.type != "approle":
        text = f"the auth method {APPROLE} is gone: neither guests nor labctl can log in. {_AGAIN}"
        yield Finding(AREA, Kind.MISSING, f"login/{APPROLE}", text, Severity.HIGH)
    declared = {APPROLE, *([f"{JWT}/"] if jobs else [])}
    if jobs and found.get(f"{JWT}/", Mount("")).type != JWT:
        text = f"the auth method {JWT}/, by which the repository's jobs log in, is not there. {_AGAIN}"
        yield Finding(AREA, Kind.MISSING, f"login/{JWT}/", text, Severity.MEDIUM)
    for path, method in found.items():
        if path not in declared and method.type not in BUILT_IN_TYPES:
            text = f"the Vault has another way in: auth method {method.type} at {path}, which nobody declared"
            yield _unmanaged("login", path, text, Severity.MEDIUM)


def compare_jobs_login(differing: Sequence[str]) -> Iterator[Finding]:
    """What of the login of the repository's jobs was changed: it says which job of which project may do what."""
    for path in differing:
        text = f"{path}, by which jobs of the lab's repository log in, is not as lab.yaml has it. {_AGAIN}"
        yield Finding(AREA, Kind.CHANGED, path, text, Severity.HIGH)


def compare_audit(found: Sequence[str]) -> Iterator[Finding]:
    """Every request is to be written down."""
    if not found:
        text = 'no audit device is on: declare one in the configuration of openbao.service (`audit "file" "main"`), restart it'
        yield Finding(AREA, Kind.MISSING, "audit", text, Severity.HIGH, guest="vault")


# --- roles


def compare_roles(applied: Declared, wanted: Declared, found: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """AppRoles with other settings, missing ones, and foreign ones."""
    for name in sorted({*applied.roles, *wanted.roles}):
        was, now, is_ = applied.roles.get(name), wanted.roles.get(name), found.get(name)
        if is_ is None:
            if now is not None:
                fresh = was is None or name == DRIFT
                yield _pending("role", name, _NOT_YET) if fresh else _missing("role", name)
            continue
        if now is not None and differing(role_parameters(now), is_):
            if was is not None and not differing(role_parameters(was), is_):
                yield _pending("role", name, "it is as the lab was applied last, and lab.yaml has changed since")
            else:
                yield _changed_role(name, role_parameters(now), is_)
    own = {*applied.policies, *wanted.policies, "root"}
    for name in sorted(found.keys() - applied.roles.keys() - wanted.roles.keys()):
        held = sorted(own & {str(one) for one in found[name].get("token_policies") or ()})
        with_what = f" and gives the lab's own policies {', '.join(held)}" if held else ""
        text = f"the Vault has AppRole {name}, which nobody declared{with_what}"
        yield _unmanaged("role", name, text, Severity.HIGH if held else Severity.LOW)


def _changed_role(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Finding:
    changes = tuple(Change(key, wanted[key], found.get(key)) for key in differing(wanted, found))
    severity = Severity.HIGH if any(word in one.path for one in changes for word in _RIGHTS) else Severity.MEDIUM
    text = f"AppRole {name} was changed: {_pairs(changes)}. {_AGAIN}"
    return Finding(AREA, Kind.CHANGED, f"role/{name}", text, severity, changes=changes)


# --- secrets


def compare_secrets(
    applied: Declared, wanted: Declared, found: Sequence[FoundSecret], *, gitlab: bool
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Secrets that are missing, incomplete or nobody's; and notes.

    Args:
        applied: As the lab was applied last.
        wanted: As lab.yaml has it now.
        found: What the Vault has.
        gitlab: Whether there is a GitLab that has issued what it issues: not before layer platform, and never with appliances.
    """
    held = {one.path: one for one in found}
    findings: list[Finding] = []
    notes: list[str] = []
    for path in sorted({*applied.secrets, *wanted.secrets}):
        spec, there = wanted.secrets.get(path) or applied.secrets[path], held.get(path)
        if there is not None and there.fields is not None:
            findings += _incomplete(spec, there.fields)
        elif there is not None and there.version:
            findings.append(_taken(there))
        elif path not in applied.secrets or not (gitlab or _own(spec)):
            if path in wanted.secrets and spec.generated:
                findings.append(_pending("secret", path, _NOT_YET))
        else:
            text = f"secret {path} ({spec.description}) is gone, with all its versions"
            findings.append(Finding(AREA, Kind.MISSING, f"secret/{path}", f"{text}. {_restored(spec)}", Severity.HIGH))
    for path in sorted(held.keys() - applied.secrets.keys() - wanted.secrets.keys()):
        made = next((one for one in projects_in(found) if path == one.path or path.startswith(f"{one.path}/")), None)
        if made is not None:
            if path == made.path and made.deleted:
                notes.append(f"the credentials of {made.kind} {made.name} were deleted in the Vault: it gets in no more")
        elif path == GITLAB_REGISTRY or (not path.startswith("store/") and generated_fields(path)):
            notes.append(f"secret {path} is left from what the lab has no longer")
        else:
            findings.append(_unmanaged("secret", path, f"the Vault has secret {path}, which nobody declared"))
    return tuple(findings), tuple(notes)


def _incomplete(spec: SecretSpec, fields: frozenset[str]) -> Iterator[Finding]:
    lacking = sorted(set(spec.fields) - fields)
    if lacking:
        changes = tuple(Change(name, "a value", None) for name in lacking)
        text = f"secret {spec.path} lacks {', '.join(lacking)}. {_restored(spec)}"
        yield Finding(AREA, Kind.CHANGED, f"secret/{spec.path}", text, Severity.HIGH, changes=changes)


def _taken(there: FoundSecret) -> Finding:
    if there.deleted and not there.destroyed:
        text = (
            f"secret {there.path} was deleted, version {there.version}: "
            f"`bao kv undelete -mount={MOUNT} -versions={there.version} {there.path}` brings it back"
        )
    elif there.alive:
        text = (
            f"version {there.version} of secret {there.path} was destroyed for good; version {there.alive} is still there: "
            f"`bao kv rollback -mount={MOUNT} -version={there.alive} {there.path}`"
        )
    else:
        text = f"every version of secret {there.path} was destroyed for good; `labctl secrets seed` makes another value"
    return Finding(AREA, Kind.MISSING, f"secret/{there.path}", text, Severity.HIGH)


def _own(spec: SecretSpec) -> bool:
    """Whether labctl itself makes it, with foundation."""
    return bool(spec.generated) or not spec.path.startswith("gitlab/")


def _restored(spec: SecretSpec) -> str:
    if spec.generated:
        return "`labctl up` makes a new value, and brings it to those who use it."
    return "`labctl up` brings it back."


# --- what is about to expire


def compare_expiry(certificates: Mapping[str, timedelta]) -> Iterator[Finding]:
    """Certificates that end soon.

    Args:
        certificates: How long each is still valid: a guest's by its name, the authority's by "".
    """
    for guest, left in sorted(certificates.items()):
        if left > EXPIRES_SOON:
            continue
        whose = f"the certificate of guest {guest}" if guest else "the certificate of the lab's authority"
        how = f"ends in {left.days} days" if left > timedelta() else "has expired"
        what = "`labctl up` renews it." if guest else "Every guest trusts it: plan its replacement (docs/secrets.md)."
        severity = Severity.HIGH if left <= timedelta() or not guest else Severity.MEDIUM
        name = f"certificate/{guest or 'authority'}"
        yield Finding(AREA, Kind.EXPIRING, name, f"{whose} {how}. {what}", severity, guest=guest)


def compare_secret_ids(ends: Mapping[str, Sequence[datetime]], now: datetime) -> Iterator[Finding]:
    """Roles whose last secret-id ends soon.

    Args:
        ends: When the secret-ids that are out end, by role; only of roles that log in more than once.
        now: The time of the check (UTC).
    """
    for role, moments in sorted(ends.items()):
        alive = [moment for moment in moments if moment > now]
        if not alive or (left := max(alive) - now) > SECRET_ID_ENDS_SOON:
            continue
        text = f"the newest secret-id of AppRole {role} ends in {left.days} days. `labctl provision … --login` hands out another."
        yield Finding(AREA, Kind.EXPIRING, f"secret-id/{role}", text, Severity.MEDIUM)


def lasting_roles(declared_roles: Mapping[str, RoleSpec]) -> tuple[str, ...]:
    """The roles that log in again and again with a secret-id that ends: those of projects."""
    again = (role for role in declared_roles.values() if role.secret_id_ttl_s and not role.secret_id_num_uses)
    return tuple(sorted(role.name for role in again))


# --- words


def _pending(kind: str, name: str, why: str) -> Finding:
    text = f"{kind} {name}: {why}. `labctl up --layer foundation` writes it."
    return Finding(AREA, Kind.PENDING, f"{kind}/{name}", text, Severity.LOW)


def _missing(kind: str, name: str) -> Finding:
    what = {"policy": "policy", "role": "AppRole"}[kind]
    text = f"{what} {name} is gone: whoever needs it is refused. {_AGAIN}"
    severity = Severity.HIGH if name in (OPERATOR, PROVIDER) else Severity.MEDIUM
    return Finding(AREA, Kind.MISSING, f"{kind}/{name}", text, severity)


def _unmanaged(kind: str, name: str, text: str, severity: Severity = Severity.LOW) -> Finding:
    return Finding(AREA, Kind.UNMANAGED, f"{kind}/{name}", text, severity)


def _pairs(changes: Sequence[Change]) -> str:
    return ", ".join(f"{one.path} is {one.after!r}, should be {one.before!r}" for one in changes)
